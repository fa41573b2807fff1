"""What importing the API package, and the operator on top of it, brings with it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def modules_of(folder: str) -> list[str]:
    paths = [path.relative_to(ROOT / folder).with_suffix("") for path in (ROOT / folder).rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


MODULES = modules_of("api")
MACHINE_LEARNING = ("torch", "transformers", "numpy", "onnxruntime")
NAMES = ["tunesmith_api.contract", "tunesmith_api.artifact", "tunesmith_api.work_folder"]
YAML_READERS = ("tunesmith_api.manifests", "tunesmith_api.codegen")
HEAVY = (*MACHINE_LEARNING, "kubernetes", "kopf", "fastapi", "typer", "rich")


def imported(modules: list[str], wanted: tuple[str, ...]) -> list[str]:
    """Return which of the wanted modules a fresh interpreter has after importing some."""
    code = f"import sys, {', '.join(modules)}\nprint(*[m for m in {wanted} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_there_are_modules_with_and_without_yaml():
    assert {"tunesmith_api.contract", "tunesmith_api.objects", "tunesmith_api.status"} <= set(MODULES)
    assert any(module.startswith(YAML_READERS) for module in MODULES)


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (MODULES, HEAVY),
        ([module for module in MODULES if not module.startswith(YAML_READERS)], (*HEAVY, "yaml")),
        (
            ["tunesmith_api.contract", "tunesmith_api.artifact", "tunesmith_api.work_folder"],
            (*HEAVY, "yaml", "pydantic"),
        ),
    ],
    ids=["everything", "without manifests and code generation", "names only"],
)
def test_importing_stays_light(modules: list[str], forbidden: tuple[str, ...]):
    assert imported(modules, forbidden) == []


def test_what_is_imported_is_seen():
    assert imported(["tunesmith_api.manifests"], ("yaml", "pydantic")) == ["yaml", "pydantic"]
