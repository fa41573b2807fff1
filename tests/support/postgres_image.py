"""An image of PostgreSQL for pods, made of this machine's Debian package: nothing is built and nothing is pulled.

It takes the variables of the image that the chart names for trials, and runs as the same user.
"""

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from cluster import images
from cluster.packages import ensure

REFERENCE = "docker.io/library/tunesmith-tests-postgres:1"

_START = """\
#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s\\n' "$POSTGRES_PASSWORD" |
    initdb -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/dev/stdin -E UTF8 --locale=C --no-sync
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  [ "$POSTGRES_DB" = postgres ] || echo "CREATE DATABASE \\"$POSTGRES_DB\\";" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -c 'listen_addresses=*'
"""
_USERS = "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n"
_PROGRAMS = ("postgres", "initdb", "pg_isready")
_LEFT_OUT = re.compile(r"/bitcode/|/pgxs/|/llvmjit|/man/")


def load(cluster: str) -> str:
    """Bring the image into a cluster's node, unless it is there, and return its name.

    Raises:
        CannotRunError: PostgreSQL cannot be installed here.
    """
    ensure({"pg_lsclusters": "postgresql"})
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parts[-2]))
    version = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256((version + _START + _USERS).encode()).hexdigest()[:16]

    def write(path: Path) -> None:
        config = {
            "Entrypoint": ["/bin/sh", "/start.sh"],
            "Env": [f"PATH={programs}:/bin"],
            "User": "999:999",
            "StopSignal": "SIGINT",  # it ends without waiting for its clients to go
        }
        images.write_layer(path, _layer(programs), config, REFERENCE)

    images.load_made(cluster, REFERENCE, digest, write)
    return REFERENCE


def _layer(programs: Path) -> bytes:
    """Return a root file system: the programs with their libraries, a shell, and the files of the server."""
    shell = Path("/bin/sh")
    started = [programs / name for name in _PROGRAMS]
    shared = Path("/usr/share/postgresql") / programs.parts[-2]
    folders = [path for folder in (programs.parent / "lib", shared) for path in sorted(folder.rglob("*"))]
    files = {*started, shell, *_libraries([*started, shell]), *(path for path in folders if path.is_file())}
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
        for path in sorted(files):
            if not _LEFT_OUT.search(str(path)):
                tar.add(path)
        for name, text in {"start.sh": _START, "etc/passwd": _USERS}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return layer.getvalue()


def _libraries(programs: list[Path]) -> Iterator[Path]:
    """Yield the shared libraries of programs, and the loader."""
    for program in programs:
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        yield from map(Path, re.findall(r"(/\S+) \(0x", listed))
