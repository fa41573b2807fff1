"""The record of a cluster."""

import json
import os
import random
import shutil
import socket
from dataclasses import asdict, dataclass, field

from cluster.errors import ClusterError
from cluster.paths import Paths
from cluster.processes import Process, start


@dataclass
class State:
    """A cluster as it was started.

    Attributes:
        name: Its name.
        mode: `api` (control plane only) or `full` (a node that runs pods as well).
        kept: Whether somebody asked for it by hand, so that tests leave it alone at their end.
        ready: Whether it was started to the end.
        ports: The port of each server, by its name.
        processes: The processes, by their names, in the order in which they were started.
        holders: The test runs that use it.
        stopped: The processes that are stopped on purpose, to see what happens without them.
        sysctls: The kernel's settings as they were before the cluster changed them.
    """

    name: str
    mode: str
    kept: bool = False
    ready: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    holders: list[Process] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> Paths:
        """The cluster's paths."""
        return Paths(self.name)

    @staticmethod
    def load(name: str) -> "State | None":
        """Return a cluster's record, or None if there is no such cluster."""
        try:
            fields = json.loads(Paths(name).state.read_text())
        except FileNotFoundError:
            return None
        fields["processes"] = {key: _process(value) for key, value in fields["processes"].items()}
        fields["holders"] = [_process(value) for value in fields["holders"]]
        return State(**fields)

    def save(self) -> None:
        """Write the record atomically."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        temporary = self.paths.state.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.replace(self.paths.state)

    def start(self, name: str, argv: list[str], environment: dict[str, str] | None = None) -> None:
        """Start one of the cluster's processes and record it."""
        program = shutil.which(argv[0])
        if program is None:
            raise ClusterError(f"{argv[0]} is not there any more.")
        log = self.paths.logs / f"{name}.log"
        self.processes[name] = start([program, *argv[1:]], log, self.paths.root, environment)
        self.save()

    def check(self) -> None:
        """Raise ClusterError, with the end of its log, if a process has exited by itself."""
        for name, process in self.processes.items():
            if not process.alive():
                log = self.paths.logs / f"{name}.log"
                end = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:]) if log.exists() else ""
                raise ClusterError(f"{name} has ended by itself. The end of {log}:\n{end}")

    def port(self, server: str) -> int:
        """Return the port of a server, a free one the first time.

        Ports below the range of outgoing connections, so that a server that is started again finds its port free.
        """
        while server not in self.ports:
            candidate = random.randrange(20000, 32000)  # noqa: S311 - a port, not a secret
            if candidate not in self.ports.values() and is_free(candidate):
                self.ports[server] = candidate
        return self.ports[server]


def _process(fields: dict) -> Process:
    return Process(fields["pid"], fields["started"], fields["boot"], tuple(fields["argv"]))


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def is_root() -> bool:
    """Return whether this user may make namespaces, mounts and interfaces."""
    return os.geteuid() == 0
