"""examples/hosted/train.mjs, the example in JavaScript. Its job runs nowhere: the test plays what training would do."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select, update

from support.clients import node_folder
from support.fake_backend import FakeBackend, condition
from support.hosted import Hosted
from support.hosted_jobs import Steps, lines
from support.hosted_served import serving_base
from support.serving_process import wait_until
from tunesmith_hosted.database.tables import ServedBase, TunedModel

EXAMPLE = Path(__file__).parents[3] / "examples" / "hosted"


def test_the_example_for_node(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(node_folder() / "node_modules")
    backend = FakeBackend()
    with serving_base(tmp_path, backend) as hosted:
        environment = {"OPENAI_BASE_URL": f"{hosted.url}/v1", "OPENAI_API_KEY": hosted.key}
        with subprocess.Popen(
            ["node", str(folder / "train.mjs"), "tiny", "2"],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                play_training(hosted, backend, tmp_path)
                said, _ = process.communicate(timeout=300)
            finally:
                process.kill()
    assert process.returncode == 0, said
    for line in ("uploaded train.jsonl", "pausing ...", "paused; then queued", "results: step,train_loss"):
        assert f"\n{line}" in f"\n{said}", said
    assert "checkpoints of steps 2, 1\ncheckpoint of step 1: ft:tiny:acme:library:" in said


def play_training(hosted: Hosted, backend: FakeBackend, folder: Path) -> None:
    """Play the training of the one job there will be: it runs, is paused, runs again and succeeds."""
    client, steps = hosted.client(), Steps(hosted, backend)

    def until(reached: Callable[[], bool]) -> None:
        def look() -> bool:
            steps.look()
            return reached()

        wait_until(look)

    until(lambda: bool(backend.jobs()))
    (name,) = backend.jobs()
    (job,) = client.fine_tuning.jobs.list()

    def status() -> str:
        return str(client.fine_tuning.jobs.retrieve(job.id).status)

    backend.set_status(name, phase="Training", progress={"step": 1, "totalSteps": 2, "loss": 2.0})
    until(lambda: status() == "pausing")
    backend.set_status(name, phase="Training", conditions=condition("Suspended", "it waits"))
    until(lambda: status() == "queued" and not next(iter(backend.objects.values()))["spec"].get("suspend"))
    artifact = folder / "artifact"
    artifact.mkdir()
    (artifact / "training_log.jsonl").write_bytes(lines([{"step": n, "loss": 3.0 - n, "tokens": n} for n in (1, 2)]))
    before = {"step": 1, "uri": f"{artifact}-step-1"}
    backend.set_status(name, phase="Succeeded", artifact={"uri": str(artifact), "step": 2, "checkpoints": [before]})
    until(lambda: status() == "succeeded")

    _, checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id)

    # The base's server answers for the model that the job has made, and for its checkpoint before the last.
    async def wake() -> None:
        async with hosted.sessions.begin() as session:
            base = await session.get_one(ServedBase, "tiny")
            awake = {"workspace": base.workspace, "wanted": "awake", "endpoint": base.endpoint}
            await session.execute(update(TunedModel).values(**awake))
            model = (await session.execute(select(TunedModel))).scalar_one()
            session.add(
                TunedModel(
                    id=checkpoint.fine_tuned_model_checkpoint, project_id=model.project_id, job_id=model.job_id,
                    base=model.base, step=1, artifact="x", created_at=1, **awake,
                )
            )  # fmt: skip

    hosted.run(wake())
