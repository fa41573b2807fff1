"""The images that the repository defines: their requirements, sources and digests."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCES = ("api", "operator", "trainer", "serving", "backend", "cli", "hosted")


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: Its folder in images/; the image is `tunesmith-NAME`, or `tunesmith-NAME-PROVIDER`.
        sources: The folders whose packages it keeps, so that a change elsewhere does not build it again.
        provider: The execution provider that it is for, where there is an image for each.
    """

    name: str
    sources: tuple[str, ...]
    provider: str = ""

    @property
    def key(self) -> str:
        """What it is called on the command line."""
        return f"{self.name}-{self.provider}" if self.provider else self.name

    @property
    def arguments(self) -> dict[str, str]:
        """Its own build arguments."""
        return {"PROVIDER": self.provider} if self.provider else {}

    @property
    def dockerfile(self) -> Path:
        """Its own part of the Dockerfile."""
        return ROOT / "images" / self.name / "Dockerfile"

    @property
    def recipe(self) -> str:
        """The whole Dockerfile: the stages that all images begin with, then its own."""
        return base_dockerfile().read_text(encoding="utf-8") + self.dockerfile.read_text(encoding="utf-8")

    @property
    def reference(self) -> str:
        """The name and tag that it is built as."""
        return f"tunesmith-{self.key}:{version()}"


_ALL = (
    Image("operator", tuple(source for source in SOURCES if source != "hosted")),
    Image("serving", ("api", "serving")),
    # publish replays requests with the server's own code, as a child process.
    Image("trainer", ("api", "trainer", "serving")),
    Image("hosted", ("api", "backend", "hosted")),
)
IMAGES = {image.name: image for image in _ALL}
"""The images that are built when none is named."""
_PROVIDERS = ("cuda", "tensorrt", "openvino", "migraphx", "cann", "vitisai")
PROVIDER_IMAGES = {f"serving-{name}": Image("serving", ("api", "serving"), name) for name in _PROVIDERS}
"""The servers' images for other execution providers than the CPU's."""
ALL_IMAGES = {**IMAGES, **PROVIDER_IMAGES}


def console() -> Path:
    """Return the folder of what the console's own build has made, if it was built: a part of the image `hosted`."""
    return ROOT / "console" / "dist"


def base_dockerfile() -> Path:
    """Return the stages that all images begin with."""
    return ROOT / "images" / "base.Dockerfile"


def version() -> str:
    """Return the project's version, which is every image's tag."""
    return str(_project()["version"])


def requirements(image: Image) -> str:
    """Return an image's requirements: the project's, and those of the extra with the image's name."""
    project = _project()
    lines = [*project["dependencies"], *project["optional-dependencies"][image.name]]
    return "".join(f"{line}\n" for line in sorted(lines))


def constraints() -> str:
    """Return the pinned versions."""
    return (ROOT / "constraints.txt").read_text(encoding="utf-8")


def torch_pins() -> str:
    """Return the pins of the largest layer, so that it is not rebuilt when other versions change."""
    lines = constraints().splitlines()
    return "".join(f"{line}\n" for line in lines if re.match(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==", line))


def context_files(image: Image) -> dict[str, str]:
    """Return the files of an image's build context, except the wheel."""
    return {
        "Dockerfile": image.recipe,
        "requirements.txt": requirements(image),
        "constraints.txt": constraints(),
        "torch.txt": torch_pins(),
    }


def layer_digests(image: Image) -> dict[str, str]:
    """Return build arguments that invalidate layers whose inputs are only mounted."""
    return {
        "TORCH_DIGEST": _digest([torch_pins()]),
        "REQUIREMENTS_DIGEST": _digest([requirements(image), constraints()]),
    }


def dependencies_digest(image: Image, base: str, arguments: Mapping[str, str]) -> str:
    """Return a digest of everything that the layers below the project's depend on.

    Args:
        image: The image.
        base: What identifies the content of the base image.
        arguments: The build arguments.
    """
    parts = [image.recipe, requirements(image), constraints(), base]
    return _digest([*parts, json.dumps(dict(arguments), sort_keys=True)])


def inputs_digest(image: Image, base: str, arguments: Mapping[str, str]) -> str:
    """Return a digest of everything that an image depends on."""
    texts = [dependencies_digest(image, base, arguments), json.dumps(_packaging(), sort_keys=True)]
    built = sorted(path for path in console().rglob("*") if path.is_file()) if "hosted" in image.sources else []
    for path in (*source_files(image.sources), *built):
        texts += [str(path.relative_to(ROOT)), hashlib.sha256(path.read_bytes()).hexdigest()]
    return _digest(texts)


def source_files(folders: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of the packages in some folders, in a fixed order."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in {".py", ".typed", ".jinja", ".json", ".mako"}:
                yield path


def _project() -> dict[str, Any]:
    project: dict[str, Any] = _pyproject()["project"]
    return project


def _packaging() -> Any:  # noqa: ANN401 - it is only digested
    pyproject = _pyproject()
    project = {key: value for key, value in pyproject["project"].items() if key != "optional-dependencies"}
    return [project, pyproject["tool"]["setuptools"], pyproject["build-system"]]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
