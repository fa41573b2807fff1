"""An image registry on this machine, from which the node pulls only the layers that it lacks."""

import json
import urllib.request

from cluster import binaries, startup
from cluster.errors import ClusterError
from cluster.paths import Paths, cache, locked
from cluster.state import State, is_free

_PROCESS = "registry"


def registry_address(name: str = "full") -> str:
    """Return HOST:PORT of a cluster's registry, starting it if necessary; it is part of the cluster and stops with it.

    What is in it stays in the cache, and the port stays the same too, so that names of images go on to be right. Push
    by plain HTTP (`--tls-verify=false`); pods name images as HOST:PORT/NAME:TAG.

    Raises:
        ClusterError: There is no such cluster, or the registry does not start.
    """
    program = binaries.registry()
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None or state.mode != "full":
            raise ClusterError(f"No cluster {name} that runs pods is there.")
        address = f"localhost:{_port(state)}"
        running = state.processes.get(_PROCESS)
        if running is None or not running.alive():
            _start(state, str(program), address)
        return address


def _start(state: State, program: str, address: str) -> None:
    hosts = state.paths.root / "registries" / address
    hosts.mkdir(exist_ok=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{address}"\n')
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(cache() / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{address.rpartition(':')[2]}"},
    }
    path = state.paths.root / "registry.yaml"
    path.write_text(json.dumps(settings))
    state.start(_PROCESS, [program, "serve", str(path)])
    startup.wait(lambda: _answers(address), 20, "the registry", state)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _port(state: State) -> int:
    """Return the registry's port: the same as in earlier clusters if it is free."""
    path = cache() / "registry-port"
    if _PROCESS not in state.ports and path.exists() and is_free(int(path.read_text())):
        state.ports[_PROCESS] = int(path.read_text())
    port = state.port(_PROCESS)
    path.write_text(str(port))
    return port
