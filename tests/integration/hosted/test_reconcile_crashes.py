"""A replica that is killed between any two statements loses nothing, and makes nothing twice."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Checkpoint, File, Job, JobEvent, Organization, Project, TunedModel

STRIDE = 11
"""Points between the first two kills, and lives. Later kills are further apart, or they could hold a job up forever."""


class KilledError(BaseException):
    """The replica is killed here. Nothing catches it, as nothing catches SIGKILL."""


class Killer:
    """Raises at points where something becomes visible outside the process, before or after it does.

    Attributes:
        at: The next point at which it raises; None is none.
        passed: The points that were passed.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.passed = 0
        self._gap = STRIDE

    def begin(self, at: int) -> None:
        """Count from 1 again, and raise at a point and at others after it."""
        self.at, self.passed, self._gap = at, 0, STRIDE

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.at += self._gap
            self._gap += 1
            raise KilledError


class KilledSessions:
    """Sessions whose transactions may be the last before a replica is killed, or the one that it loses."""

    def __init__(self, sessions: Any, killer: Killer) -> None:
        self._sessions, self._killer = sessions, killer

    def __call__(self) -> Any:
        return self._sessions()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        async with self._sessions.begin() as session:
            yield session
            self._killer.point()
        self._killer.point()


class KilledBackend(FakeBackend):
    """The fake, whose changes may be the last before a replica is killed, or the one that it does not come to."""

    def __init__(self, killer: Killer) -> None:
        super().__init__()
        self._killer = killer

    async def apply(self, manifests: Any) -> Any:
        self._killer.point()
        refs = await super().apply(manifests)
        self._killer.point()
        return refs

    async def suspend(self, ref: Any, suspended: bool = True) -> Any:
        self._killer.point()
        found = await super().suspend(ref, suspended)
        self._killer.point()
        return found

    async def delete(self, ref: Any) -> None:
        self._killer.point()
        await super().delete(ref)
        self._killer.point()


class Life:
    """The lives of replicas: each goes on where the one before was killed, after its claims have ended."""

    def __init__(self, hosted: Hosted, backend: KilledBackend, killer: Killer) -> None:
        self._hosted, self._backend, self._killer = hosted, backend, killer
        self._ahead = 0.0
        self.kills = 0
        self._replica()

    def _replica(self) -> None:
        sessions: Any = KilledSessions(self._hosted.sessions, self._killer)
        self._steps = Steps(self._hosted, self._backend, sessions)
        self._steps.ahead = self._ahead

    def until(self, status: str, job_id: str) -> None:
        """Look until a job has a status, and once more."""
        client = self._hosted.client()
        reached = False
        for _ in range(40):
            try:
                self._steps.look()
            except KilledError:
                self.kills += 1
                self._ahead = self._steps.ahead + 61
                self._replica()
                continue
            if reached:
                return
            reached = client.fine_tuning.jobs.retrieve(job_id).status == status
        raise AssertionError(f"the job is not {status}")


async def namespace_of(hosted: Hosted) -> str:
    """Return the namespace of the first project."""
    async with hosted.sessions() as session:
        query = select(Project.namespace).join(Organization).order_by(Organization.name)
        return (await session.execute(query)).scalars().all()[0]


def live(hosted: Hosted, backend: KilledBackend, killer: Killer, artifact: str) -> Life:
    """Run a job from its file to its model, with a pause."""
    life = Life(hosted, backend, killer)
    client = hosted.client()
    training = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT)))
    job = client.fine_tuning.jobs.create(model="tiny", training_file=training)
    name = f"ft-{job.id[6:].lower()}"
    ref = ObjectRef("FineTuneJob", name, hosted.run(namespace_of(hosted)))
    while ref not in backend.objects:
        life.until("queued", job.id)
    backend.set_status(name, phase="Training", progress={"step": 1, "totalSteps": 2, "loss": 2.0})
    life.until("running", job.id)
    client.fine_tuning.jobs.pause(job.id)
    while not backend.objects[ref]["spec"].get("suspend"):
        life.until("pausing", job.id)
    suspended = [{"type": "Ready", "status": "Unknown", "reason": "Suspended", "message": "it waits"}]
    backend.set_status(name, phase="Training", conditions=suspended)
    life.until("paused", job.id)
    client.fine_tuning.jobs.resume(job.id)
    while backend.objects[ref]["spec"].get("suspend"):
        life.until("queued", job.id)
    backend.set_status(name, phase="Succeeded", artifact={"uri": artifact})
    life.until("succeeded", job.id)
    assert backend.made[ref] == 1

    async def counts() -> tuple[int, ...]:
        async with hosted.sessions() as session:
            of_job = (
                select(func.count()).where(JobEvent.job_id == job.id, JobEvent.type == "metrics"),
                select(func.count()).where(Checkpoint.job_id == job.id),
                select(func.count()).where(TunedModel.job_id == job.id),
                select(func.count()).where(File.purpose == "fine-tune-results"),
                select(func.count()).where(Job.place_at.is_not(None)),
            )
            found = [(await session.execute(query)).scalar_one() for query in of_job]
            events = (await session.execute(select(JobEvent.message).where(JobEvent.job_id == job.id))).scalars().all()
            assert len(set(events)) == len(events), events
            return tuple(found)

    assert hosted.run(counts()) == (1, 1, 1, 1, 0)
    return life


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "training_log.jsonl").write_bytes(lines([{"step": 1, "loss": 2.0, "tokens": 9}]))
    return str(folder)


@pytest.fixture
def subject(tmp_path: Path, database_url: str) -> Iterator[tuple[Hosted, KilledBackend, Killer]]:
    killer = Killer()
    backend = KilledBackend(killer)
    tiny = {**BASE, "model": {"uri": "/models/tiny"}}
    with serving(tmp_path, backend, bases=[tiny], database=database_url) as hosted:
        yield hosted, backend, killer


def test_a_replica_may_be_killed_anywhere(subject: tuple[Hosted, KilledBackend, Killer], artifact: str) -> None:
    hosted, backend, killer = subject
    assert live(hosted, backend, killer, artifact).kills == 0
    assert killer.passed > 40
    for first in range(1, STRIDE + 1):

        async def empty() -> None:
            async with hosted.sessions.begin() as session:
                for table in (TunedModel, Checkpoint, JobEvent, Job, File):
                    await session.execute(delete(table))

        hosted.run(empty())
        backend.objects.clear()
        backend.made.clear()
        killer.begin(first)
        assert live(hosted, backend, killer, artifact).kills > 3
