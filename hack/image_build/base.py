"""The base image: a public slim Python, or one built from Debian's packages if no registry can be reached."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import packages
from cluster.paths import cache
from image_build.engine import Engine
from image_build.errors import BuildError

DEFAULT = "python:3.11-slim-bookworm"
DEBOOTSTRAP = "debootstrap"
_SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")


def base_image(engine: Engine, wanted: str) -> str:
    """Return the base image, once it is in the local storage.

    Args:
        engine: What builds.
        wanted: A reference; `debootstrap` for Debian's packages; empty for the public one where it can be pulled, else
            Debian's packages.

    Raises:
        BuildError: It is not available.
    """
    own = _own_name()
    if wanted == DEBOOTSTRAP or (not wanted and engine.identity(own) and not engine.identity(_full(DEFAULT))):
        return _bootstrapped(engine, own)
    image = _full(wanted or DEFAULT)
    if engine.identity(image):
        return image
    reason = engine.pull(image)
    if not reason:
        return image
    if wanted:
        raise BuildError(f"{image} cannot be pulled ({reason}); BASE_IMAGE=debootstrap needs no registry.")
    print(f"{image} cannot be pulled; building the base image from Debian's packages", file=sys.stderr, flush=True)
    return _bootstrapped(engine, own)


def _full(image: str) -> str:
    """Return a reference with its registry: short names of Docker Hub are looked up nowhere else."""
    first = image.split("/")[0]
    if "/" in image and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"


def _own_name() -> str:
    recipe = hashlib.sha256(repr((_SUITE, _PACKAGES, _LEFT_OUT)).encode()).hexdigest()[:8]
    return f"tunesmith-base:{_SUITE}-{recipe}"


def _bootstrapped(engine: Engine, name: str) -> str:
    if engine.identity(name):
        return name
    if os.geteuid() != 0:
        raise BuildError("debootstrap needs root; name a base image that is here or can be pulled: BASE_IMAGE=...")
    packages.ensure({"debootstrap": "debootstrap"})
    folder = Path(tempfile.mkdtemp(prefix="base-", dir=cache()))
    root = folder / "root"
    try:
        command = [
            packages.find("debootstrap") or "debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}",
            _SUITE, str(root), *_mirror(),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode:
            raise BuildError(f"debootstrap failed:\n{(result.stdout + result.stderr)[-3000:]}")
        for path in _LEFT_OUT:
            for entry in (root / path).iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        engine.from_folder(root, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return name


def _mirror() -> list[str]:
    """Return where this machine's own apt has the suite from, or nothing, which means debootstrap's default."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    sources = [line.partition(" ") for line in listed.splitlines()]
    return next(([uri] for uri, _, suite in sources if suite == _SUITE), [])
