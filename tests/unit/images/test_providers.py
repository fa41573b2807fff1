"""The servers' images for execution providers: one recipe, an image for each provider by build argument."""

import re
import subprocess
from pathlib import Path

import pytest

from image_build.build import _declared
from image_build.project import ALL_IMAGES, IMAGES, PROVIDER_IMAGES, inputs_digest, requirements
from tunesmith_api.spec.execution_providers import EXECUTION_PROVIDERS

SERVING = IMAGES["serving"]


def chosen(folder: Path, provider: str, named: str = "") -> subprocess.CompletedProcess[str]:
    """Run the part of the recipe that chooses the packages, on a copy of the requirements."""
    (folder / "requirements.txt").write_text(requirements(SERVING))
    (script,) = re.findall(r"(set -f;.*?requirements.txt; fi)", SERVING.recipe, flags=re.DOTALL)
    script = script.replace("/build/", f"{folder}/")
    return subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin:/bin", "PROVIDER": provider, "ONNXRUNTIME": named},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def runtimes(folder: Path) -> list[str]:
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert "fastapi>=0.130,<1" in lines
    return [line for line in lines if line.startswith(("onnxruntime", "tensorrt"))]


def test_there_is_an_image_for_each_provider() -> None:
    assert {image.provider for image in PROVIDER_IMAGES.values()} == set(EXECUTION_PROVIDERS) - {"cpu"}
    assert ALL_IMAGES["serving-cuda"].reference.startswith("tunesmith-serving-cuda:")
    digests = {inputs_digest(image, "base", image.arguments) for image in (SERVING, *PROVIDER_IMAGES.values())}
    assert len(digests) == len(PROVIDER_IMAGES) + 1
    assert _declared(ALL_IMAGES["serving-cuda"], {"PROVIDER": "cuda", "OTHER": "x"}) == {"PROVIDER": "cuda"}


@pytest.mark.parametrize(
    ("provider", "packages"),
    [
        ("cpu", ["onnxruntime>=1.28,<2"]),
        ("cuda", ["onnxruntime-gpu[cuda,cudnn]==1.31.1"]),
        ("tensorrt", ["onnxruntime-gpu[cuda,cudnn]==1.31.1", "tensorrt-cu13>=10,<11"]),
        ("openvino", ["onnxruntime>=1.28,<2", "onnxruntime-ep-openvino>=1.8,<2"]),
        ("migraphx", ["onnxruntime-migraphx==1.27.1"]),
        ("cann", ["onnxruntime-cann==1.24.4"]),
    ],
)
def test_each_has_its_packages(tmp_path: Path, provider: str, packages: list[str]) -> None:
    done = chosen(tmp_path, provider)
    assert done.returncode == 0, done.stderr
    assert runtimes(tmp_path) == packages


def test_the_package_can_be_named(tmp_path: Path) -> None:
    assert chosen(tmp_path, "vitisai", "onnxruntime-vitisai==1.22.1").returncode == 0
    assert runtimes(tmp_path) == ["onnxruntime-vitisai==1.22.1"]
    for provider, said in (("vitisai", "name AMD's build"), ("rocm", "there is no execution provider rocm")):
        done = chosen(tmp_path, provider)
        assert (done.returncode, said in done.stderr) == (1, True)
