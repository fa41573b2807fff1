"""The built images: how large they are, what is in them, and that they run as nobody on a read-only root."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import CannotRunError
from image_build.base import base_image
from image_build.build import BASE, build
from image_build.buildah import Buildah
from image_build.choose import engine
from image_build.project import IMAGES, version

pytestmark = pytest.mark.e2e

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def builder() -> Buildah:
    if os.geteuid() != 0:
        pytest.skip("Running an image without a container runtime needs root.")
    try:
        found = engine()
        if not isinstance(found, Buildah):
            pytest.skip("Images are looked into by buildah, and docker is what is used here.")
        build(found, list(IMAGES), "", {})
    except CannotRunError as reason:
        pytest.skip(str(reason))
    return found


class Box:
    """One image, mounted read-only but for /tmp, in which commands are run as its user with its environment."""

    def __init__(self, builder: Buildah, name: str) -> None:
        self._image = f"localhost/{IMAGES[name].reference}"
        config = json.loads(builder.ask("inspect", "--type", "image", self._image))["OCIv1"]["config"]
        self.user: str = config["User"]
        self.entry_point: list[str] = config["Entrypoint"]
        self._environment: list[str] = config["Env"]
        self._builder = builder
        self._container = builder.ask("from", self._image)
        self.root = Path(builder.ask("mount", self._container))

    def close(self) -> None:
        self._builder.ask("umount", self._container)
        self._builder.ask("rm", self._container)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        script = (
            'root=$1; user=$2; shift 2; mount --bind "$root" "$root"; mount -t tmpfs tmpfs "$root/tmp"; '
            'mount -t proc proc "$root/proc"; mount -o remount,bind,ro "$root"; cd /; '
            'exec chroot --userspec="$user" "$root" env -i "$@"'
        )
        unshare = ["unshare", "--mount", "--fork", "--pid", "sh", "-ec", script, "sh", str(self.root), self.user]
        return subprocess.run(
            [*unshare, *self._environment, *command], capture_output=True, text=True, timeout=300, cwd="/"
        )


@pytest.fixture(params=sorted(IMAGES))
def box(request: pytest.FixtureRequest, builder: Buildah) -> Iterator[Box]:
    assert shutil.which("unshare")
    opened = Box(builder, request.param)
    yield opened
    opened.close()


def only(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("box", [name], indirect=True)


@pytest.mark.parametrize(
    ("name", "most"), [("operator", 130 * MEGABYTE), ("serving", 260 * MEGABYTE), ("hosted", 360 * MEGABYTE)]
)
def test_no_larger_over_the_base_than_said(builder: Buildah, name: str, most: int) -> None:
    image = IMAGES[name].reference
    over = builder.size(image) - builder.size(builder.label(image, BASE))
    assert 0 < over <= most, f"{over / MEGABYTE:.0f} MB"


def test_it_runs_as_nobody_and_can_write_to_tmp_alone(box: Box) -> None:
    assert box.user == "65532:65532"
    done = box.run("sh", "-c", "id -u; id -g; id -un; touch /tmp/a && echo tmp; touch /opt/tunesmith/a || touch /a")
    assert done.stdout.split() == ["65532", "65532", "tunesmith", "tmp"]
    assert done.stderr.count("Read-only file system") == 2


def test_the_entry_point_answers(box: Box) -> None:
    done = box.run(*box.entry_point, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_version_is_the_projects(box: Box) -> None:
    done = box.run("python", "-c", "from importlib.metadata import version; print(version('tunesmith'))")
    assert done.stdout.strip() == version()


@only("operator")
def test_the_operator_holds_no_machine_learning(box: Box) -> None:
    code = "import importlib.util as u; print([m for m in ('torch', 'numpy', 'onnxruntime', 'pip') if u.find_spec(m)])"
    assert box.run("python", "-c", code).stdout.strip() == "[]"
    done = box.run("python", "-c", "import torch")
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr


@only("operator")
def test_the_operator_has_all_that_it_imports(box: Box) -> None:
    code = (
        "import tunesmith_operator.app.command, kubernetes.aio.client as c; "
        "print(c.V1Job.__name__, c.CoreV1Api.__name__)"
    )
    done = box.run("python", "-c", code)
    assert done.stdout.split() == ["V1Job", "CoreV1Api"], done.stderr


@only("hosted")
def test_the_hosted_api_has_all_that_it_imports(box: Box) -> None:
    code = (
        "import tunesmith_hosted.process.command, kubernetes.aio.client, psycopg, adlfs, gcsfs; "
        "from tunesmith_hosted.database.migrate import newest; from pyarrow.fs import S3FileSystem; "
        "import importlib.util as u; print(newest(), [m for m in ('torch', 'onnxruntime', 'pip') if u.find_spec(m)])"
    )
    done = box.run("python", "-c", code)
    assert done.stdout.strip().endswith("[]"), done.stderr


@only("serving")
def test_the_server_computes_without_torch(box: Box) -> None:
    code = "import onnxruntime, tunesmith_serving.http.app; print(onnxruntime.get_available_providers())"
    done = box.run("python", "-c", code)
    assert "CPUExecutionProvider" in done.stdout, done.stderr
    done = box.run("python", "-c", "import torch")
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr


@only("trainer")
def test_the_trainer_has_its_libraries(box: Box) -> None:
    code = "import torch, transformers, peft, deepspeed, onnxruntime_genai, adlfs; print(torch.ones(2).sum().item())"
    done = box.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2.0", done.stderr


def test_nothing_of_the_building_machine_is_left(box: Box) -> None:
    for path in ("etc/pip.conf", "run/pip/pip.conf", "run/pip/ca.crt", "build", "root/.cache", "opt/tunesmith/bin/pip"):
        assert not (box.root / path).is_file(), path
    assert not any((box.root / "tmp").iterdir())


def test_the_base_is_not_built_again(builder: Buildah) -> None:
    assert build(builder, list(IMAGES), "", {}) == []
    assert builder.identity(base_image(builder, ""))
