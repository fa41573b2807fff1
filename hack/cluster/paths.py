"""Paths: of what is built, and of what a cluster writes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import CannotRunError

SOURCES = Path(__file__).parent
MARK = "TUNESMITH_CLUSTER"
"""Environment variable of every process of a cluster: its folder. So none is lost, however its starter ended."""


def cache() -> Path:
    """Return the folder for everything that outlives a checkout, from `TUNESMITH_CACHE` or ~/.cache/tunesmith."""
    folder = Path(os.environ.get("TUNESMITH_CACHE") or Path.home() / ".cache" / "tunesmith").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel releases it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue  # its holder before has removed it
            yield
            return


@dataclass(frozen=True)
class Paths:
    """The paths of one cluster.

    Attributes:
        name: The cluster's name.
    """

    name: str

    @property
    def root(self) -> Path:
        """Everything that is deleted with the cluster."""
        return cache() / "clusters" / self.name

    @property
    def run(self) -> Path:
        """Sockets and running containers: not below `root`, because a socket's path can have 107 bytes at most."""
        return Path("/run") / f"tunesmith-{self.name}"

    @property
    def cgroup(self) -> str:
        """The cgroup, of the same name in each hierarchy, in which all pods run."""
        return f"tunesmith-{self.name}"

    @property
    def images(self) -> Path:
        """Containerd's images and layers: kept from one cluster to the next."""
        return cache() / "containerd"

    @property
    def state(self) -> Path:
        """The record of the cluster."""
        return self.root / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held while the cluster is started or stopped."""
        return cache() / "clusters" / f"{self.name}.lock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.root / "logs"

    @property
    def kubelet(self) -> Path:
        """The kubelet's folder, pods' volumes included."""
        folder = self.root / "kubelet"
        if len(str(folder)) > 70:
            raise CannotRunError(
                f"The path {folder} is too long for the kubelet's sockets; set TUNESMITH_CACHE to a shorter one."
            )
        return folder

    @property
    def volumes(self) -> Path:
        """The contents of the PersistentVolumes."""
        return self.root / "volumes"
