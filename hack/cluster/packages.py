"""Programs from Debian's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.errors import CannotRunError
from cluster.paths import cache, locked

API = {"etcd": "etcd-server"}
FULL = {"containerd": "containerd", "runc": "runc", "nft": "nftables", "ip": "iproute2"}
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(program: str) -> str | None:
    """Return a program's path, also if it is only on root's PATH."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM]))


def cni_folder() -> Path | None:
    """Return the folder of the CNI plugins, or None when they are missing."""
    return next((folder for folder in CNI_FOLDERS if (folder / "bridge").exists()), None)


def ensure(programs: dict[str, str], cni: bool = False) -> None:
    """Install the programs that are missing, given as {program: package}.

    Raises:
        CannotRunError: Something is missing and cannot be installed by this user on this system.
    """
    with locked(cache() / "packages.lock"):
        missing = [package for program, package in programs.items() if find(program) is None]
        if cni and cni_folder() is None:
            missing.append("containernetworking-plugins")
        if not missing:
            return
        names = " ".join(missing)
        if shutil.which("apt-get") is None:
            raise CannotRunError(f"This system lacks {names} and has no apt-get to install them; install them by hand.")
        if os.geteuid() != 0:
            raise CannotRunError(f"This system lacks {names}; run as root, or first: sudo apt-get install {names}")
        print(f"Installing {names}", file=sys.stderr, flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = ["-o", "DPkg::Lock::Timeout=300"]
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            result = subprocess.run(
                ["apt-get", "-q", *wait, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CannotRunError(f"apt-get could not install {names} ({reason}).")


def etcd() -> str:
    """Return etcd's path, installing it if necessary; if this user may not install, it is unpacked into the cache."""
    unpacked = cache() / "bin" / "etcd-unpacked"
    program = unpacked / "usr" / "bin" / "etcd"
    found = find("etcd") or (str(program) if program.exists() else None)
    if found:
        return found
    if os.geteuid() != 0 and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        with locked(cache() / "packages.lock"):
            temporary = cache() / "etcd-download"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            steps = (["apt-get", "-q", "download", "etcd-server"], ["sh", "-c", "dpkg-deb -x *.deb tree"])
            if all(subprocess.run(step, cwd=temporary, capture_output=True).returncode == 0 for step in steps):
                shutil.rmtree(unpacked, ignore_errors=True)
                unpacked.parent.mkdir(exist_ok=True)
                (temporary / "tree").rename(unpacked)
                return str(program)
    ensure(API)
    return find("etcd") or "etcd"
