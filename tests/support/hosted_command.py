"""`tunesmith hosted` as users start it, a process of its own, with a base model whose server it starts itself."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.local.processes import die_with_parent


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: Its address.
        key: A key.
        folder: Its working folder.
    """

    url: str
    key: str
    folder: Path

    def base(self, name: str) -> tuple[str, str | None]:
        """Return what a base model is wanted to be, and the address of its server while it has one."""
        with sqlite3.connect(f"file:{self.folder}/hosted/tunesmith.db?mode=ro", uri=True) as database:
            query = "SELECT wanted, endpoint FROM served_bases WHERE name = ?"
            found: tuple[str, str | None] = database.execute(query, (name,)).fetchone() or ("asleep", None)
        return found

    def wait_asleep(self, name: str, seconds: float = 300) -> None:
        """Return once a base model has no server any more."""
        deadline = time.monotonic() + seconds
        statuses = f".tunesmith/*/*{name}*/inferenceworkspace-status.json"
        while True:
            phases = {json.loads(path.read_text()).get("phase") for path in self.folder.glob(statuses)}
            if self.base(name)[0] == "asleep" and phases <= {"Stopped"}:
                return
            assert time.monotonic() < deadline, f"{name} does not fall asleep: {phases}"
            time.sleep(0.05)


@contextmanager
def hosted_command(folder: Path, **settings: Any) -> Iterator[Service]:
    """Serve on one machine until the end of the context; its log is `folder`/log."""
    (folder / "hosted.yaml").write_text(json.dumps(settings))  # YAML's superset of JSON
    command = [sys.executable, "-m", "tunesmith_hosted", "--config", "hosted.yaml", "serve", "--port", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
        )
    try:
        assert process.stdout is not None
        url = key = None
        for line in process.stdout:
            if found := re.match(r"base_url=(\S+)/v1 api_key=(\S+)", line):
                url, key = found.groups()
            if line.startswith("Serving"):
                break
        assert url and key, (folder / "log").read_text()[-3000:]
        yield Service(url, key, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)
