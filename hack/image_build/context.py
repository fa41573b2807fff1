"""The inputs of a build: the context folder, and the host's pip settings as secrets."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from image_build.errors import BuildError
from image_build.project import ROOT, SOURCES, Image, console, context_files, source_files

_KEPT_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@contextmanager
def wheel() -> Iterator[Path]:
    """Provide the project's wheel. It is built from a copy, without what a checkout's build/ holds."""
    with TemporaryDirectory(prefix="tunesmith-wheel-") as name:
        folder = Path(name)
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, folder / file)
        for path in source_files(SOURCES):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        if console().is_dir():
            shutil.copytree(console(), folder / "hosted" / "tunesmith_hosted" / "console" / "static")
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(folder),
            str(folder),
        ]
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode:
            raise BuildError(f"The project's wheel could not be built:\n{(result.stdout + result.stderr)[-3000:]}")
        yield next(folder.glob("*.whl"))


@contextmanager
def context(image: Image, wheel_file: Path) -> Iterator[Path]:
    """Provide the context folder: the Dockerfile, the requirements and the wheel."""
    with TemporaryDirectory(prefix=f"tunesmith-{image.name}-") as name:
        folder = Path(name)
        for file, text in context_files(image).items():
            (folder / file).write_text(text, encoding="utf-8")
        shutil.copy(wheel_file, folder)
        yield folder


@contextmanager
def secrets() -> Iterator[dict[str, Path]]:
    """Provide the host's pip settings and CA bundle: mounted for the build, never part of an image."""
    with TemporaryDirectory(prefix="tunesmith-pip-") as name:
        settings = _pip_settings()
        given = {"pip": Path(name) / "pip.conf"}
        bundle = next((Path(path) for key in _BUNDLES if (path := os.environ.get(key))), _SYSTEM_BUNDLE)
        if bundle.is_file():
            settings["cert"] = "/run/pip/ca.crt"
            given["ca"] = bundle
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        given["pip"].write_text("".join(["[global]\n", *lines]), encoding="utf-8")
        yield given


def _pip_settings() -> dict[str, str]:
    """Return this machine's pip settings for package indexes, from files and variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    parser = configparser.RawConfigParser(delimiters=("=",))
    parser.read_string("[all]\n" + result.stdout)
    found: dict[str, str] = {}
    for section in ("global.", ":env:."):  # The later wins, as with pip.
        for key, value in parser["all"].items():
            name = key.removeprefix(section)
            if key.startswith(section) and name in _KEPT_SETTINGS:
                found[name] = value.strip("'\"").replace("\\n", " ")
    return found
