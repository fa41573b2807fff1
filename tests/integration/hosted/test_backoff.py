"""How long the service waits until it tries again."""

from pathlib import Path

import pytest
from sqlalchemy import select

from support.fake_backend import FakeBackend
from support.hosted import Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Outbox
from tunesmith_hosted.reconcile.claims import AWAY_SECONDS


class Failing(FakeBackend):
    """A backend that does nothing."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__()
        self._kind = kind

    async def get(self, ref: ObjectRef) -> dict:
        raise BackendError("it does not", self._kind)


def wait_of(hosted: Hosted, steps: Steps) -> float:
    """Return for how long the job waits until it is looked at again."""

    async def due() -> float:
        async with hosted.sessions() as session:
            return float((await session.execute(select(Outbox.due_at).where(Outbox.kind == "job"))).scalar_one())

    return float(hosted.run(due())) - steps.context.now()


@pytest.mark.parametrize(("kind", "is_away"), [(ErrorKind.RETRY, True), (ErrorKind.FAILED, False)])
def test_an_api_server_that_was_away_is_asked_again_soon(tmp_path: Path, kind: ErrorKind, is_away: bool) -> None:
    backend = Failing(kind)
    with serving(tmp_path, backend) as hosted:
        steps = Steps(hosted, backend)
        file = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT)))
        hosted.client().fine_tuning.jobs.create(model="tiny", training_file=file)
        longest = 0.0
        for _ in range(60):
            steps.look()
            longest = max(longest, wait_of(hosted, steps))
        assert (longest <= AWAY_SECONDS) == is_away
