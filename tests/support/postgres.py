"""PostgreSQL for tests: Debian's package, run as an unprivileged user on a Unix socket in a temporary folder."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import CannotRunError
from cluster.packages import ensure
from support.ports import free_port
from tunesmith_api.local.processes import die_with_parent

USER = "tunesmith"
_SETTINGS = {"fsync": "off", "max_connections": "100", "shared_buffers": "32MB"}


class Postgres:
    """A server. `kill` and `start` again try what a crash leaves.

    Args:
        folder: Of its data and its socket.
        address: An address that it listens at too, for pods; it trusts all who reach that.
    """

    def __init__(self, folder: Path, address: str = "") -> None:
        self.folder = folder
        self._address = address
        self._port = str(free_port(address) if address else 5432)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def create_database(self) -> str:
        """Create a database, and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._run("createdb", "-h", str(self.folder), "-p", self._port, "-U", USER, name)
        if self._address:
            return f"postgresql://{USER}@{self._address}:{self._port}/{name}"
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def initialize(self) -> None:
        """Make an empty server."""
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        if self._address:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all trust\n")

    def start(self) -> None:
        """Start, and return when connections are taken."""
        given = {**_SETTINGS, "listen_addresses": self._address, "port": self._port}
        settings = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        command = [_program("postgres"), "-D", str(self._data), "-k", str(self.folder), *settings]
        at_start = partial(die_with_parent, os.getpid(), signal.SIGQUIT)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=at_start, **_unprivileged())
        while not self._is_ready():
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError((self.folder / "log").read_text())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop it without warning: the postmaster and its children."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(300)

    def _is_ready(self) -> bool:
        return (
            subprocess.run(
                [_program("pg_isready"), "-q", "-h", str(self.folder), "-p", self._port], timeout=300
            ).returncode
            == 0
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [_program(program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=self.folder, **_unprivileged())

    @property
    def _data(self) -> Path:
        return self.folder / "data"


@contextmanager
def running(address: str = "") -> Iterator[Postgres]:
    """Run a server until the end of the context.

    Args:
        address: An address that it listens at too.

    Raises:
        CannotRunError: It cannot be installed here.
    """
    ensure({"pg_lsclusters": "postgresql"})
    # pytest's own folders are not for the user that the server runs as, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-postgres-", dir="/tmp"))
    if user := _unprivileged().get("user"):
        shutil.chown(folder, user)
    server = Postgres(folder, address)
    try:
        server.initialize()
        server.start()
        yield server
        server.kill(signal.SIGINT)
    finally:
        if server._process is not None and server._process.poll() is None:
            server.kill(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


_ENDS = ExitStack()
atexit.register(_ENDS.close)


def new_database(folder: Path) -> str:
    """Return the URL of an empty database: of SQLite in a folder, or of what `TUNESMITH_TEST_DATABASE` names.

    With `TUNESMITH_TEST_DATABASE=postgresql`, tests that do not care about their database run over PostgreSQL.
    """
    kind = os.environ.get("TUNESMITH_TEST_DATABASE", "sqlite")
    if kind == "sqlite":
        return f"sqlite:///{folder}/db.sqlite"
    if kind != "postgresql":
        raise ValueError(f"TUNESMITH_TEST_DATABASE={kind}: write sqlite or postgresql")
    return _shared().create_database()


@cache
def _shared() -> Postgres:
    """Return a server that runs until the process ends."""
    return _ENDS.enter_context(running())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, for all tests of the session."""
    try:
        with running() as server:
            yield server
    except CannotRunError as error:
        pytest.skip(f"no PostgreSQL: {error}")


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """URL of an empty database."""
    return postgres.create_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create_database()


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise CannotRunError(f"/usr/lib/postgresql has no {name}; reinstall the package postgresql.")
    return str(found[-1])


def _unprivileged() -> dict[str, Any]:
    """Return whom to run as: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    owner = pwd.getpwnam("postgres")
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
