"""Programs that are built from their Go modules, once for each version, into the cache."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cluster.errors import CannotRunError, ClusterError
from cluster.paths import SOURCES, cache, locked

HELM = "v4.3.1"
COREDNS = "v1.15.0"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_MODULE = SOURCES / "kubernetes"


def kubernetes_version() -> str:
    """Return the version that the Go module asks for, such as v1.36.3."""
    found = re.search(r"^(?:require )?\s*k8s\.io/kubernetes (v\S+)$", (_MODULE / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise ClusterError(f"{_MODULE / 'go.mod'} does not require k8s.io/kubernetes.")
    return found[1]


def kubernetes() -> Path:
    """Return the folder that holds each of `PROGRAMS`, building it if need be (5 minutes on 2 cores)."""
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = "-s -w " + " ".join(f"-X {package}.{key}={value}" for key, value in values.items())

    def build(folder: Path) -> None:
        _go(["build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", str(folder / "kubernetes"), "."], _MODULE)
        for program in PROGRAMS:
            (folder / program).symlink_to("kubernetes")

    sources = [(_MODULE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum")]
    return built("kubernetes", version, sources, build)


def helm() -> Path:
    """Return the helm program, building it if need be."""
    flags = f"-s -w -X helm.sh/helm/v4/internal/version.version={HELM}"
    return install("helm.sh/helm/v4/cmd/helm", HELM, flags) / "helm"


def coredns() -> Path:
    """Return the coredns program, building it if need be."""
    return install("github.com/coredns/coredns", COREDNS) / "coredns"


def probe() -> Path:
    """Return the program that runs in the pods of tests, building it if need be."""
    source = SOURCES / "probe"

    def build(folder: Path) -> None:
        _go(["build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "probe"), "."], source)

    return built("probe", "v1", [(source / name).read_bytes() for name in ("main.go", "go.mod")], build) / "probe"


def install(package: str, version: str, flags: str = "-s -w") -> Path:
    """Return the folder that holds the program of a Go package at a version, building it by `go install` if need be."""

    def build(folder: Path) -> None:
        _go(["install", "-trimpath", "-ldflags", flags, f"{package}@{version}"], folder, {"GOBIN": str(folder)})

    return built(package.rpartition("/")[2], version, [flags.encode()], build)


def built(name: str, version: str, sources: list[bytes], build: Callable[[Path], None]) -> Path:
    """Return the cache's folder for a program; `build` fills it when it is missing.

    It is filled under another name and renamed at the end, so a build that was killed leaves nothing that looks whole.
    """
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()[:8]
    folder = cache() / "bin" / f"{name}-{version}-{digest}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            if shutil.which("go") is None:
                raise CannotRunError("Go is not installed, and Kubernetes is built with it; install Go 1.26 or newer.")
            for leftover in folder.parent.glob(f"{folder.name}.building-*"):
                shutil.rmtree(leftover)
            print(f"Building {name} {version}: once, for {folder}", file=sys.stderr, flush=True)
            temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))
            build(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
    return folder


def _go(arguments: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off", **(environment or {})}
    result = subprocess.run(
        [*nice, "go", *arguments], cwd=folder, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if too_old := re.search(r"requires go >= (\S+) \(running go (\S+?)[;)]", result.stdout):
        raise CannotRunError(
            f"Go {too_old[2]} is installed, and {too_old[1]} is needed to build Kubernetes; update it."
        )
    if result.returncode:
        raise ClusterError(f"go {' '.join(arguments)} failed:\n{result.stdout[-3000:]}")
