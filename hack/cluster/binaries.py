"""Programs built from their Go modules into the cache, once for each version."""

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

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_NAMES = ("kubernetes", "probe", "store", "dex")
_KUBERNETES, _PROBE, _STORE, _DEX = (SOURCES / name for name in _NAMES)


def version(module: str, folder: Path) -> str:
    """Return the version of a module that the go.mod in a folder asks for, such as v1.36.3."""
    text = (folder / "go.mod").read_text()
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise ClusterError(f"{folder / 'go.mod'} does not require {module}.")
    return found[1]


def kubernetes() -> Path:
    """Return the folder that holds each of `PROGRAMS`, building it if necessary (5 minutes on 2 cores)."""
    wanted = version("k8s.io/kubernetes", _KUBERNETES)
    major, minor, _ = wanted.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    values = {"gitVersion": wanted, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(f"-X {package}.{key}={value}" for key, value in values.items())

    def build(folder: Path) -> None:
        _go_build(_KUBERNETES, (".",), folder / "kubernetes", flags)
        for program in PROGRAMS:
            (folder / program).symlink_to("kubernetes")

    return built(f"kubernetes-{wanted}", _KUBERNETES, build)


def helm() -> Path:
    """Return the helm program, building it if necessary."""
    return _tools() / "helm"


def coredns() -> Path:
    """Return the coredns program, building it if necessary."""
    return _tools() / "coredns"


def registry() -> Path:
    """Return the image registry's program, building it if necessary."""
    return _tools() / "registry"


def probe() -> Path:
    """Return the program that runs in the pods of tests, building it if necessary."""
    return built("probe", _PROBE, lambda folder: _go_build(_PROBE, (".",), folder / "probe")) / "probe"


def object_store() -> Path:
    """Return the program of an object store that speaks S3, building it if necessary (1 minute)."""
    package = "github.com/versity/versitygw/cmd/versitygw"
    name = f"versitygw-{version(package.removesuffix('/cmd/versitygw'), _STORE)}"
    return built(name, _STORE, lambda folder: _go_build(_STORE, (package,), folder / "versitygw")) / "versitygw"


def dex() -> Path:
    """Return the program of an OpenID Connect provider, building it if necessary (2 minutes)."""
    name = f"dex-{version('github.com/dexidp/dex', _DEX)}"
    return built(name, _DEX, lambda folder: _go_build(_DEX, (".",), folder / "dex")) / "dex"


def _tools() -> Path:
    """Return the folder of programs that share most of their packages with Kubernetes, and so its module (a minute)."""
    package = "helm.sh/helm/v4/internal/version"
    flags = f"-X {package}.version={version('helm.sh/helm/v4', _KUBERNETES)}"
    packages = ("./helm", "./coredns", "./registry")
    return built("helm-coredns-registry", _KUBERNETES, lambda folder: _go_build(_KUBERNETES, packages, folder, flags))


def built(name: str, module: Path, build: Callable[[Path], None]) -> Path:
    """Return the cache's folder for what is built from a Go module; if it is missing, `build` fills it.

    It is filled under another name and renamed at the end, so a build that was killed leaves nothing that looks whole.
    """
    sources = sorted(path for path in module.rglob("*") if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    folder = cache() / "bin" / f"{name}-{digest}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            if shutil.which("go") is None:
                raise CannotRunError("Go is not installed, and Kubernetes is built with it; install Go 1.26 or newer.")
            for leftover in folder.parent.glob(f"{folder.name}.building-*"):
                shutil.rmtree(leftover)
            print(f"Building {name}: once, for {folder}", file=sys.stderr, flush=True)
            temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))
            build(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
    return folder


def _go_build(module: Path, packages: tuple[str, ...], output: Path, flags: str = "") -> None:
    """Build a package, or several into a folder, at a low priority.

    The linker leaves the debugging information out, so the compiler need not make it; with less frequent collection of
    garbage that saves a sixth of the time.
    """
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    command = ["go", "build", "-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {flags}"]
    command += ["-o", str(output), *packages]
    result = subprocess.run(
        [*nice, *command], cwd=module, stdin=subprocess.DEVNULL, text=True,
        env={"GOGC": "400", **os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if too_old := re.search(r"requires go >= (\S+) \(running go (\S+?)[;)]", result.stdout):
        raise CannotRunError(
            f"Go {too_old[2]} is installed, and {too_old[1]} is needed to build Kubernetes; update it."
        )
    if result.returncode:
        raise ClusterError(f"{' '.join(command)} failed:\n{result.stdout[-3000:]}")
