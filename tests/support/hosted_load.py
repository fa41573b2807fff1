"""Projects that fine-tune at the same time, while what the service depends on is killed, and what must hold then."""

import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import openai
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from support.hosted_fleet import Fleet
from support.hosted_jobs import CHAT, lines
from support.job_history import left_at_the_end, made_twice, most_at_once
from support.postgres import Postgres
from tunesmith_hosted.database.tables import ApiKey, File, Job, Outbox, Project, TunedModel

Result = TypeVar("Result")
AWAY = (openai.APIConnectionError, openai.InternalServerError)
ENDED = {"succeeded", "failed", "cancelled"}
PATIENCE_SECONDS = 900.0


@dataclass
class Wanted:
    """What a project has asked for, and what came of it.

    Attributes:
        key: Its key.
        quota: How many jobs it may run at once.
        jobs: Its jobs by their number.
        cancelled: Those that were cancelled.
        seconds: How long all have taken.
        starved: The longest time for which a job waited that could have run by the quota.
    """

    key: str
    quota: int
    jobs: dict[int, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    seconds: float = 0.0
    starved: float = 0.0


def persist(call: Callable[[], Result]) -> Result:
    """Call until it is answered, as a client does whose requests break off."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except AWAY:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def create_once(client: openai.OpenAI, file: str, number: int) -> str:
    """Create a job once: with a key, and where nobody knows what became of the first request, by looking."""
    while True:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        metadata = {"number": str(number)}

        def create(headers: dict[str, str] = headers, metadata: dict[str, str] = metadata) -> str:
            jobs = client.fine_tuning.jobs
            return jobs.create(model="tiny", training_file=file, metadata=metadata, extra_headers=headers).id

        try:
            return persist(create)
        except openai.ConflictError:
            time.sleep(1)  # what a killed replica has sent to the database is done by now, or never
            for job in persist(lambda: list(client.fine_tuning.jobs.list(limit=100))):
                if job.metadata == metadata:
                    return job.id


def run_project(fleet: Fleet, wanted: Wanted, jobs: int) -> None:
    """Upload, create jobs, pause and resume one, cancel another, and wait until all have ended."""
    begun = time.monotonic()
    client = fleet.client(wanted.key)
    file = persist(lambda: client.files.create(file=("rows.jsonl", lines(CHAT)), purpose="fine-tune")).id
    for number in range(jobs):
        wanted.jobs[number] = create_once(client, file, number)
    paused, cancelled = wanted.jobs[0], wanted.jobs[1]
    try_on(lambda: client.fine_tuning.jobs.pause(paused))
    while persist(lambda: client.fine_tuning.jobs.retrieve(cancelled)).status in ("validating_files", "queued"):
        time.sleep(0.1)  # one that runs keeps its place until it is gone
    if try_on(lambda: client.fine_tuning.jobs.cancel(cancelled)):
        wanted.cancelled.add(cancelled)
    try_on(lambda: client.fine_tuning.jobs.resume(paused))
    deadline = time.monotonic() + PATIENCE_SECONDS
    since = None
    while (now := time.monotonic()) < deadline:
        found = persist(lambda: list(client.fine_tuning.jobs.list(limit=100)))
        if all(job.status in ENDED for job in found):
            wanted.seconds = now - begun
            return
        states = [job.status for job in found]
        is_starved = "queued" in states and states.count("running") + states.count("pausing") < wanted.quota
        since = (since or now) if is_starved else None
        wanted.starved = max(wanted.starved, now - (since or now))
        time.sleep(0.3)
    raise AssertionError(f"jobs of a project have not ended: {[job.status for job in found]}")


def try_on(call: Callable[[], Any]) -> bool:
    """Do something to a job; return False if it has ended before."""
    try:
        persist(call)
    except openai.BadRequestError as error:
        assert error.code == "invalid_job_state", error
        return False
    return True


def kill_at_random(fleet: Fleet, postgres: Postgres | None, choice: random.Random, kills: int, seconds: float) -> None:
    """Kill replicas and the database, each so often, at random moments.

    This runs in the thread that lives longest, since what it starts dies with it.
    """
    plan = ["replica"] * kills + ["postgres"] * (kills if postgres else 0)
    choice.shuffle(plan)
    for what in plan:
        time.sleep(choice.uniform(0.1, 2 * seconds))
        if what == "replica":
            replica = choice.choice(fleet.replicas)
            replica.kill()
            replica.start()
        elif postgres is not None:
            postgres.kill()
            restart(postgres)


def interrupt_at_random(fleet: Fleet, choice: random.Random, outages: int, seconds: float) -> None:
    """Interrupt where jobs run so often, at random moments."""
    for _ in range(outages):
        time.sleep(choice.uniform(0.1, 2 * seconds))
        fleet.site.interrupt(choice)


def restart(postgres: Postgres) -> None:
    """Start a database that was killed, whose processes may take a moment to notice."""
    for _ in range(100):
        try:
            return postgres.start()
        except RuntimeError:
            time.sleep(0.1)
    postgres.start()


def run_load(
    fleet: Fleet,
    postgres: Postgres | None,
    *,
    seed: int,
    projects: int,
    jobs: int,
    kills: int,
    outages: int,
    gap: float,
) -> tuple[list[Wanted], bool]:
    """Run the load; return what was asked for, and whether jobs were left when the last kill came."""
    wanted = []
    for number in range(projects):
        quota = 1 + number % 4
        wanted.append(Wanted(fleet.add_project(f"p{number}", jobs_at_once=quota), quota))
    with ThreadPoolExecutor(projects + 1) as threads:
        running = [threads.submit(run_project, fleet, item, jobs) for item in wanted]
        outs = threads.submit(interrupt_at_random, fleet, random.Random(seed + 1), outages, gap)
        kill_at_random(fleet, postgres, random.Random(seed), kills, gap)
        outs.result()
        lasted = not all(item.done() for item in running)
        for item in running:
            item.result()
    return wanted, lasted


def check_load(fleet: Fleet, wanted: list[Wanted]) -> None:
    """Check that no job was lost or made twice, none ran over a quota at any moment, and nothing is left behind."""

    async def facts(session: AsyncSession) -> list[Any]:
        query = select(Job).join(Project).join(ApiKey, ApiKey.project_id == Project.id)
        secrets = [item.key.removeprefix("sk-ts-").split("-")[0] for item in wanted]
        return list((await session.execute(query.where(ApiKey.lookup.in_(secrets)))).scalars())

    rows = {row.id: row for row in fleet.in_database(facts)}
    assert sorted(rows) == sorted(id for item in wanted for id in item.jobs.values()), "jobs were lost, or made twice"
    cancelled = set().union(*(item.cancelled for item in wanted))
    for id, row in rows.items():
        assert row.status == ("cancelled" if id in cancelled else "succeeded"), (id, row.status, row.error)
    wait_settled(fleet, rows)

    history = fleet.site.history()
    assert made_twice(history) == []
    most = most_at_once(history)
    spaces = fleet.namespaces[-len(wanted) :]
    over = {
        space: most.get(space, 0) for space, item in zip(spaces, wanted, strict=True) if most.get(space, 0) > item.quota
    }
    assert over == {}, "jobs of these projects have run at the same time"
    named = {row.object_name for row in rows.values()}
    assert {entry.name for entry in history if entry.act == "made" and entry.namespace in spaces} <= named
    succeeded = {row.object_name for row in rows.values() if row.status == "succeeded"}
    assert left_at_the_end(history) & named == succeeded, (
        "a job that has succeeded is there once, one that was cancelled is not"
    )


def wait_settled(fleet: Fleet, rows: dict[str, Any]) -> None:
    """Wait until the service has nothing left to do, and check what it has made."""

    async def left(session: AsyncSession) -> list[str]:
        places = (await session.execute(select(Job.id).where(Job.place_at.is_not(None)))).scalars().all()
        asked = (await session.execute(select(Outbox.subject).where(Outbox.kind == "job"))).scalars().all()
        return [*places, *asked]

    deadline = time.monotonic() + 300
    while (found := fleet.in_database(left)) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert found == [], "places are taken, or looks are due, of jobs that have ended"

    async def counts(session: AsyncSession) -> tuple[Any, ...]:
        models = select(TunedModel.job_id, func.count()).group_by(TunedModel.job_id)
        results = select(File.id).where(File.purpose == "fine-tune-results", File.deleted_at.is_(None))
        made = {job: count for job, count in await session.execute(models)}
        return made, set((await session.execute(results)).scalars())

    models, results = fleet.in_database(counts)
    for row in rows.values():
        assert models.get(row.id, 0) == (1 if row.status == "succeeded" else 0)
        assert set(row.result_files) <= results
