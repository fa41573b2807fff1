"""What every Dockerfile keeps to."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from image_build.project import (
    IMAGES,
    SOURCES,
    Image,
    base_dockerfile,
    context_files,
    requirements,
    source_files,
)

MODULES = {name: f"tunesmith_{name}" for name in ("operator", "serving", "trainer", "hosted")}


@pytest.fixture(params=sorted(IMAGES))
def image(request: pytest.FixtureRequest) -> Image:
    return IMAGES[request.param]


def instructions(image: Image) -> list[tuple[str, str]]:
    """The instructions as (word, rest), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", image.recipe, flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def final_stage(image: Image) -> list[tuple[str, str]]:
    """The instructions of the last stage, after those of the stage that it starts from."""
    stages: dict[str, list[tuple[str, str]]] = {}
    lines: list[tuple[str, str]] = []
    for word, rest in instructions(image):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            lines = stages[name] = [*stages.get(base, [])]
        lines.append((word, rest))
    return lines


def test_the_folder_holds_the_dockerfile_alone(image: Image) -> None:
    assert [path.name for path in image.dockerfile.parent.iterdir()] == ["Dockerfile"]


def test_the_base_is_an_argument_with_a_public_pinned_default(image: Image) -> None:
    lines = instructions(image)
    assert lines[0] == ("ARG", "BASE_IMAGE=python:3.11-slim-bookworm")
    stages = {rest.split(" AS ")[1] for word, rest in lines if word == "FROM" and " AS " in rest}
    bases = {rest.split(" AS ")[0] for word, rest in lines if word == "FROM"}
    assert bases - stages == {"${BASE_IMAGE}"}
    assert len(stages) >= 2


def test_it_runs_as_nobody_and_gets_signals(image: Image) -> None:
    final = final_stage(image)
    words = [word for word, _ in final]
    assert final[-1] == ("ENTRYPOINT", f'["python", "-m", "{MODULES[image.name]}"]')
    assert [rest for word, rest in final if word == "USER"] == ["65532:65532"]
    # Nothing is written after the switch: the user owns nothing in the image.
    assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])
    assert not any("--chown" in rest for _, rest in final)


def test_it_can_run_on_a_read_only_root(image: Image) -> None:
    environment = " ".join(rest for word, rest in final_stage(image) if word == "ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "HOME=/tmp" in environment


def test_the_project_is_the_last_layer_above_its_dependencies(image: Image) -> None:
    layers = [(word, rest) for word, rest in final_stage(image) if word in {"RUN", "COPY"}]
    assert layers[-1] == ("COPY", "--from=project /project /opt/tunesmith")
    outside = [rest for word, rest in instructions(image) if word == "COPY" and "*.whl" in rest]
    assert len(outside) == 1


def test_everything_installed_is_pinned(image: Image) -> None:
    installs = [
        rest for word, rest in instructions(image) if word == "RUN" and "pip install" in rest.replace("  ", " ")
    ]
    installs += [rest for word, rest in instructions(image) if word == "RUN" and " install -q" in rest]
    assert installs
    for line in installs:
        assert re.search(r"-c /build/(constraints|torch)\.txt", line) or "--no-deps --no-index" in line, line


def test_no_setting_of_the_building_machine_stays(image: Image) -> None:
    for word, rest in instructions(image):
        assert word != "ADD"
        if word == "COPY":
            assert not re.search(r"pip\.conf|\.crt|\.pem|/etc/", rest)
    final = " ".join(rest for word, rest in final_stage(image) if word in {"ENV", "ARG"})
    assert "PIP_" not in final


@pytest.mark.parametrize("name", ["operator", "serving"])
def test_no_machine_learning_framework_where_none_is_needed(name: str) -> None:
    found = closure(requirements(IMAGES[name]).splitlines())
    assert {"pydantic", "prometheus-client"} <= found
    unwanted = {"torch", "transformers", "deepspeed", "onnx", "pyarrow"} | ({"numpy"} if name == "operator" else set())
    assert not found & unwanted


@pytest.mark.parametrize("name", ["operator", "serving"])
def test_what_is_imported_is_asked_for(name: str) -> None:
    """In a virtual environment with everything a missing requirement would not be seen."""
    asked = {canonicalize_name(Requirement(line).name) for line in requirements(IMAGES[name]).splitlines()}
    distributions = metadata.packages_distributions()
    modules = set().union(*(imports(path) for path in source_files((name,))))
    foreign = modules - set(sys.stdlib_module_names) - {f"tunesmith_{folder}" for folder in SOURCES}
    assert len(foreign) > 3
    missing = {module for module in foreign if not asked & {canonicalize_name(d) for d in distributions[module]}}
    assert missing <= {"starlette", "pydantic_core"}  # What FastAPI and pydantic are made of, in their versions


def imports(path: Path) -> set[str]:
    """The top-level modules that a module imports, types aside."""
    if path.suffix != ".py":
        return set()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


def test_the_trainer_has_the_requirement_that_has_a_layer_of_its_own() -> None:
    lines = requirements(IMAGES["trainer"]).splitlines()
    for package in ("torch", "deepspeed"):  # The Dockerfile looks for these lines.
        assert len([line for line in lines if re.match(rf"{package}([<>=]|$)", line)]) == 1


def closure(lines: list[str]) -> set[str]:
    """The names of all that a list of requirements brings, by what is installed here."""
    found: set[str] = set()
    todo = [Requirement(line) for line in lines]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            below = Requirement(text)
            extras = requirement.extras or {""}
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(below)
    return found


def test_the_folders_are_the_images() -> None:
    folder = Path(IMAGES["operator"].dockerfile).parents[1]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(IMAGES)
    assert [path for path in folder.iterdir() if not path.is_dir()] == [base_dockerfile()]


def test_what_all_images_share_is_written_once() -> None:
    """Long enough to be worth a stage in base.Dockerfile, and the same in two images."""
    seen: dict[str, str] = {}
    for image in IMAGES.values():
        for line in {line.strip() for line in image.dockerfile.read_text().splitlines()}:
            if line.startswith(("ENV", "RUN echo", "WORKDIR")):
                assert line not in seen, f"{line} is in {seen.get(line)} and {image.name}"
                seen[line] = image.name


def test_the_context_has_the_whole_dockerfile(image: Image) -> None:
    written = context_files(image)["Dockerfile"]
    assert written.startswith(base_dockerfile().read_text())
    assert written.endswith(image.dockerfile.read_text())
