"""What processes agree on is written in one place."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith_api import contract
from tunesmith_api.artifact import artifact_digest
from tunesmith_api.contract import FIRST_RETRYABLE_CODE, is_final, outcome_of, reason_of, sentence_of
from tunesmith_api.failures import EXIT_CODES, Reason, StageError

ROOT = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for folder in ("api", "operator", "trainer", "serving", "cli", "backend", "hosted")
    for path in (ROOT / folder).glob("tunesmith_*/**/*.py")
)
HOMES = {"contract.py", "artifact.py", "work_folder.py", "failures.py"}
SHARED = {
    value
    for name, value in vars(contract).items()
    if name.isupper() and isinstance(value, str) and re.fullmatch(r"(TUNESMITH|KUBEFLOW|DISABLE)_[A-Z_]+", value)
} | {"manifest.json", "stage.json", "resolved.json", contract.PROGRESS_PATH}


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The string constants of a module, docstrings aside."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def in_api(path: Path) -> bool:
    return path.parent.name == "tunesmith_api" and path.name in HOMES


@pytest.mark.parametrize("path", [p for p in SOURCES if not in_api(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_shared_name_is_written_twice(path: Path) -> None:
    assert [(line, text) for line, text in strings(path) if text in SHARED] == []


@pytest.mark.parametrize("path", [p for p in SOURCES if not in_api(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_rendezvous_port_is_written_once(path: Path) -> None:
    numbers = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    assert contract.MASTER_PORT not in numbers


def test_the_names_are_found_where_they_are_written() -> None:
    """The test above looks for the right things."""
    found = {text for path in SOURCES if in_api(path) for _, text in strings(path)}
    assert found >= SHARED
    assert {"TUNESMITH_JOB_CONFIG", "TUNESMITH_API_KEY", "KUBEFLOW_TRAINER_SERVER_URL", "manifest.json"} <= SHARED


@pytest.mark.parametrize("path", [p for p in SOURCES if not in_api(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_else_knows_which_exit_codes_are_final(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            values = [item.value for item in (node.left, *node.comparators) if isinstance(item, ast.Constant)]
            assert FIRST_RETRYABLE_CODE not in values, f"line {node.lineno}"


def test_every_reason_has_a_code_of_its_own() -> None:
    assert set(EXIT_CODES) == set(Reason)
    for reason, code in EXIT_CODES.items():
        assert reason_of(code) is reason
        assert is_final(reason) == (code < FIRST_RETRYABLE_CODE)
    assert reason_of(1) is None
    assert not is_final(Reason.INTERRUPTED)
    assert is_final(Reason.INVALID_DATASET)


def test_an_outcome_is_told_as_one_sentence_after_the_other() -> None:
    error = StageError(Reason.INVALID_DATASET, "data.jsonl:3: no answer.", "Write one")
    assert sentence_of(outcome_of(error)) == "data.jsonl:3: no answer. Write one"
    assert sentence_of(outcome_of()) == ""


def test_the_digest_of_an_artifact_is_that_of_its_files() -> None:
    files = {"a": {"sha256": "1", "size": 3}, "b": {"sha256": "2", "size": 3}}
    assert artifact_digest(files) == artifact_digest({"b": {"sha256": "2"}, "a": {"sha256": "1"}})
    assert artifact_digest(files) != artifact_digest({**files, "b": None})
