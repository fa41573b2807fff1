"""When an image is built again."""

import shutil
from pathlib import Path

import pytest

from image_build import project
from image_build.project import IMAGES, inputs_digest, layer_digests, source_files


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what images are made from, to change."""
    for path in [
        *source_files(project.SOURCES), project.ROOT / "pyproject.toml", project.ROOT / "constraints.txt",
        *(image.dockerfile for image in IMAGES.values()), project.base_dockerfile(),
    ]:  # fmt: skip
        target = tmp_path / path.relative_to(project.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    monkeypatch.setattr(project, "ROOT", tmp_path)
    return tmp_path


def digests() -> dict[str, str]:
    return {name: inputs_digest(image, "base", {}) for name, image in IMAGES.items()}


def changed(before: dict[str, str]) -> set[str]:
    return {name for name, digest in digests().items() if digest != before[name]}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("trainer/tunesmith_trainer/__main__.py", {"trainer", "operator"}),
        ("serving/tunesmith_serving/__main__.py", {"serving", "operator", "trainer"}),
        ("operator/tunesmith_operator/__main__.py", {"operator"}),
        ("api/tunesmith_api/__init__.py", {"operator", "serving", "trainer", "hosted"}),
        ("backend/tunesmith_backend/__init__.py", {"operator", "hosted"}),
        ("hosted/tunesmith_hosted/__main__.py", {"hosted"}),
        ("images/serving/Dockerfile", {"serving"}),
        ("images/base.Dockerfile", {"operator", "serving", "trainer", "hosted"}),
        ("constraints.txt", {"operator", "serving", "trainer", "hosted"}),
    ],
)
def test_a_change_concerns_the_images_that_hold_it(checkout: Path, file: str, expected: set[str]) -> None:
    before = digests()
    append(checkout / file, "# changed\n")
    assert changed(before) == expected


def test_the_console_is_a_part_of_one_image(checkout: Path) -> None:
    before = digests()
    page = checkout / "console" / "dist" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    assert changed(before) == {"hosted"}


def test_a_requirement_concerns_its_image(checkout: Path) -> None:
    before = digests()
    file = checkout / "pyproject.toml"
    file.write_text(
        file.read_text().replace('serving = [\n    "fastapi>=0.130,<1",', 'serving = [\n    "fastapi>=0.131,<1",')
    )
    assert changed(before) == {"serving"}


def test_another_base_or_argument_concerns_all(checkout: Path) -> None:
    image = IMAGES["trainer"]
    plain = inputs_digest(image, "base", {})
    assert inputs_digest(image, "other", {}) != plain
    assert inputs_digest(image, "base", {"TORCH_INDEX_URL": "https://example.com"}) != plain


def test_the_layer_of_torch_outlives_other_versions(checkout: Path) -> None:
    before = layer_digests(IMAGES["trainer"])
    append(checkout / "constraints.txt", "another==1.0\n")
    after = layer_digests(IMAGES["trainer"])
    assert after["TORCH_DIGEST"] == before["TORCH_DIGEST"]
    assert after["REQUIREMENTS_DIGEST"] != before["REQUIREMENTS_DIGEST"]
    file = checkout / "constraints.txt"
    file.write_text(file.read_text().replace("triton==", "triton==9."))
    assert layer_digests(IMAGES["trainer"])["TORCH_DIGEST"] != before["TORCH_DIGEST"]
