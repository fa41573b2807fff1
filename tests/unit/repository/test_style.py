"""The repository keeps its own rules: style, types, import directions, sizes."""

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
PACKAGES = [ROOT / folder for folder in ("operator", "trainer", "serving", "cli")]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_is_clean(command):
    result = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_modules_are_small():
    sizes = {
        path: len(path.read_text().splitlines())
        for package in PACKAGES
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert statistics.median(sizes.values()) < 150
    assert {str(path): size for path, size in sizes.items() if size > 500} == {}


def test_the_operator_and_the_command_line_import_no_machine_learning():
    code = (
        "import sys, tunesmith_cli.commands.main, tunesmith_api.objects, tunesmith_api.manifests\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'onnxruntime', 'fastapi') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
