"""Backup and restore by the commands of docs/hosted.md, while the service works, to a state older than all else."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from support.hosted_fleet import Fleet, running_fleet
from support.hosted_jobs import CHAT, lines
from support.job_history import made_twice
from support.postgres import _program

DOCS = Path(__file__).resolve().parents[3] / "docs" / "hosted.md"


def run_documented(word: str, **variables: object) -> None:
    """Run the commands of the block of docs/hosted.md that has a word."""
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL) if word in block]
    path = f"{Path(_program('pg_dump')).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **{name: str(value) for name, value in variables.items()}}
    subprocess.run(["bash", "-ec", block], env=environment, check=True, timeout=300)


def check(fleet: Fleet, *options: str) -> str:
    """Run `tunesmith hosted check`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [*fleet.command, "check", *options]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout


def wait(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def upload(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", lines(CHAT)), purpose="fine-tune").id


def test_an_older_database_is_made_consistent(database_url: str, tmp_path: Path) -> None:
    is_sqlite = database_url.startswith("sqlite")
    database = database_url.removeprefix("sqlite:///") if is_sqlite else database_url
    backup, files = tmp_path / "backup", tmp_path / "files"
    backup.mkdir()
    given = {"DATABASE": database, "BACKUP": backup, "FILES": files}
    with running_fleet(tmp_path, database_url, 1, (1.0, 2.0)) as fleet:
        client = fleet.client(fleet.add_project("backup"))

        def create(file: str) -> str:
            return client.fine_tuning.jobs.create(model="tiny", training_file=file).id

        def ended(*jobs: str) -> bool:
            return all(client.fine_tuning.jobs.retrieve(job).status == "succeeded" for job in jobs)

        kept, gone = upload(client), upload(client)
        before = create(kept)
        wait(lambda: client.fine_tuning.jobs.retrieve(before).status == "running")
        run_documented("VACUUM INTO" if is_sqlite else "pg_dump", **given)
        client.files.delete(gone)
        wait(lambda: not (files / f"{gone}.jsonl").exists())
        run_documented("mkdir -p", **given)
        later = upload(client)
        after = create(later)
        client.files.delete(kept)
        wait(lambda: ended(before, after) and not (files / f"{kept}.jsonl").exists())

        fleet.replicas[0].kill()
        run_documented('database.sqlite" "$DATABASE' if is_sqlite else "pg_restore", **given)
        run_documented("update=none", **given)
        said = check(fleet)
        lost = f"ft-{after.rpartition('-')[2].lower()}"
        assert re.search(rf"FineTuneJob \S+/{lost} belongs to nothing", said), said
        assert f"{later}.jsonl in the store belongs to nothing" in said, said
        assert f"{gone} has no content" in said, said
        assert before not in said and kept not in said, said
        check(fleet, "--remove")
        again = check(fleet)
        assert lost not in again and later not in again and "1 left" in again, again

        fleet.replicas[0].start()
        fleet.replicas[0].wait_ready()
        wait(lambda: ended(before))
        assert client.files.content(kept).content == lines(CHAT)
        with pytest.raises(openai.NotFoundError, match="upload it again"):
            client.files.content(gone)
        for missing in (later, after):
            with pytest.raises(openai.NotFoundError):
                client.files.retrieve(missing) if missing == later else client.fine_tuning.jobs.retrieve(missing)
        assert client.fine_tuning.jobs.retrieve(before).fine_tuned_model
        new = create(kept)
        wait(lambda: ended(new))
        log = fleet.site.history()
        assert made_twice(log) == []
        assert [entry.name for entry in log if entry.act == "deleted"] == [lost]
