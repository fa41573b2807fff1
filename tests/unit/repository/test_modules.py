"""The shape of the source tree: what imports what, how large modules are, where they lie, which words they use."""

import re
import statistics

import pytest

from support.source_tree import FOLDERS, ROOT, circles, import_graph, imported, modules

# What a package's root may hold besides its rooms. In the API these are what every other package asks for by name: the
# contract between processes, failures and their exit codes, values that are resolved, the layout of a work folder and
# of an artifact, the registries of methods and tasks, and advice that several processes give.
ROOT_MODULES = {"__init__", "__main__"}
API_ROOT_MODULES = ROOT_MODULES | {
    "advice", "artifact", "contract", "failures", "methods", "resolve", "tasks", "work_folder",
}  # fmt: skip

# Names that were given up for the field's usual terms. A name is put here when it has been renamed everywhere.
GIVEN_UP = {
    "last_words": "termination_message",
    "take_sigterm": "install_sigterm_handler",
    "understood_failures": "translate_errors",
    "carry_out": "apply",
    "Make it.": "nothing: a constructor needs no docstring",
}


def test_nothing_imports_in_a_circle() -> None:
    assert circles(import_graph()) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert circles(graph) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_hack_works_without_the_tests() -> None:
    """`make images-push`, `make cluster-up` and `make cluster-demo` are for users, who may have no tests."""
    tests = {path.name.removesuffix(".py") for path in (ROOT / "tests").iterdir()} | {"tests"}
    assert {"support", "conftest"} <= tests
    for name, path in modules().items():
        if path.is_relative_to(ROOT / "hack"):
            assert not {target.split(".")[0] for target in imported(path)} & tests, name
    makefile = (ROOT / "Makefile").read_text()
    assert not re.search(r"PYTHONPATH=\S*tests", makefile)


def test_modules_are_small() -> None:
    sizes = {name: len(path.read_text().splitlines()) for name, path in modules().items() if path.name != "__init__.py"}
    assert len(sizes) > 150
    assert statistics.median(sizes.values()) < 130
    assert {name: size for name, size in sizes.items() if size > 300} == {}


def packages() -> list[str]:
    return [f"tunesmith_{folder}" for folder in FOLDERS if (ROOT / folder / f"tunesmith_{folder}").is_dir()]


@pytest.mark.parametrize("package", packages())
def test_modules_are_in_rooms(package: str) -> None:
    folder = ROOT / package.removeprefix("tunesmith_") / package
    allowed = API_ROOT_MODULES if package == "tunesmith_api" else ROOT_MODULES
    assert {path.stem for path in folder.glob("*.py")} - allowed == set()


@pytest.mark.parametrize("word", sorted(GIVEN_UP))
def test_a_name_that_was_given_up_stays_away(word: str) -> None:
    pattern = re.compile(rf"(?<![a-z]){re.escape(word)}(?![a-z])")
    users = [name for name, path in modules().items() if pattern.search(path.read_text())]
    assert users == [], f"say {GIVEN_UP[word]} instead of {word}"
