"""The repository keeps its own rules: style, types, import directions."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


LINT = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]]


@pytest.mark.parametrize("command", LINT, ids=" ".join)
def test_is_clean(command):
    result = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_operator_and_the_command_line_import_no_machine_learning():
    code = (
        "import sys, tunesmith_cli.commands.main, tunesmith_api.objects, tunesmith_api.manifests\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'onnxruntime', 'fastapi') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_make_and_pre_commit_check_the_same():
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert [line.strip().removeprefix("$(BIN)/").split() for line in recipe[1].splitlines()] == LINT
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    commands = [shlex.split(hook["entry"].removeprefix(".venv/bin/")) for hook in repository["hooks"]]
    assert commands == LINT


def test_make_finds_all_tests_with_pods():
    """To collect all tests for the sake of these takes a minute."""
    folders = re.search(r"^PODS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert folders
    marked = {path for path in (ROOT / "tests").rglob("test_*.py") if re.search(r"\bmark\.e2e\b", path.read_text())} - {
        Path(__file__)
    }
    found = {path for folder in folders[1].split() for path in (ROOT / folder).rglob("test_*.py")}
    assert marked and marked <= found, sorted(marked - found)
