"""What the console shows in tests: jobs in several states with all that they leave, models, files and usage."""

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

from support.fake_backend import FakeBackend, condition
from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines, put_file
from support.hosted_models import project_of
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Checkpoint, Job, JobEvent, Project, TunedModel, Usage

DONE, FAILED, RUNNING, PAUSED = "ftjob-done0001", "ftjob-failed01", "ftjob-running1", "ftjob-paused01"
TUNED, EARLIER = "ft:tiny:acme:support:done0001", "ft:tiny:acme:support:earlier1"
STEPS = 120

_GATES = [{"metric": "loss", "max": 1.2}, {"metric": "exactMatch", "min": 0.8}]
_HYPERPARAMETERS = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
_STATUS: dict[str, Any] = {
    "plan": {
        "machine": "Standard_NC24ads_A100_v4",
        "strategy": "single",
        "processes": 1,
        "microBatchSize": 4,
        "cost": 1.84,
        "stages": {
            "prepare": {"memory": "1.2Gi", "seconds": 20.0},
            "train": {"memory": "6.1Gi", "gpuMemory": "21.4Gi", "seconds": 1640.0},
            "publish": {"memory": "9.0Gi", "seconds": 210.0},
        },
    },
    "measured": {
        "prepare": {"memory": "1.0Gi", "seconds": 17.2},
        "train": {"memory": "5.8Gi", "gpuMemory": "19.9Gi", "seconds": 1512.4, "secondsPerStep": 12.6},
        "publish": {"memory": "8.4Gi", "seconds": 188.1},
    },
    "metrics": {
        "before": {"loss": 2.91, "exactMatch": 0.11},
        "after": {"loss": 0.84, "exactMatch": 0.92},
        "served": {"int4": {"loss": 0.87, "exactMatch": 0.9}},
    },
}


def curve(steps: int) -> list[dict[str, Any]]:
    """Return a training log with a loss that falls."""
    rows = []
    for step in range(1, steps + 1):
        loss = 0.8 + 2.1 * math.exp(-step / 25) + 0.06 * math.sin(step * 1.7)
        rate = 2e-4 * min(1.0, step / 10) * (1 - step / (STEPS + 10))
        rows.append({"step": step, "loss": round(loss, 4), "learningRate": rate})
        if step % 20 == 0:
            rows[-1]["evalLoss"] = round(loss + 0.08, 4)
    return rows


def add_rows(hosted: Hosted, backend: FakeBackend, folder: Path, endpoint: str | None = None) -> str:
    """Add them to the first project, and return the id of the training file."""
    training = str(hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT * 3))))
    hosted.run(_add(hosted, backend, folder, training, endpoint, project_of(hosted, hosted.key)))
    return training


async def _add(
    hosted: Hosted, backend: FakeBackend, folder: Path, training: str, endpoint: str | None, project_id: str
) -> None:
    now = int(time.time())
    artifact = await asyncio.to_thread(_artifact, folder)
    async with hosted.sessions.begin() as session:
        project = await session.get_one(Project, project_id)

        def job(id: str, status: str, age: int, observed: dict[str, Any], **columns: Any) -> Job:
            name = f"ft-{id[-8:]}"
            spec = {"model": {"uri": "models/tiny"}, "method": "lora", "evaluation": {"gates": _GATES}}
            metadata = {"name": name, "namespace": project.namespace}
            manifest = {"apiVersion": "tunesmith.dev/v1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
            ref = ObjectRef("FineTuneJob", name, project.namespace)
            backend.objects[ref] = {"metadata": metadata, "spec": spec, "status": observed}
            method = {"type": "supervised", "supervised": {"hyperparameters": _HYPERPARAMETERS}}
            return Job(
                id=id, project_id=project_id, base="tiny", model="tiny", suffix="support", seed=7, method=method,
                request={}, training_file=training, status=status, place_at=now, object_name=name, manifest=manifest,
                observed={}, created_at=now - age, **columns,
            )  # fmt: skip

        error = {"code": "gate_failed", "message": "exactMatch is 0.41, and must be at least 0.8", "param": None}
        progress = {"step": 48, "totalSteps": STEPS, "etaSeconds": 905, "loss": 1.1, "stage": "train"}
        session.add_all(
            [
                job(DONE, "succeeded", 90_000, _STATUS | {"phase": "Succeeded", "artifact": {"uri": artifact}},
                    finished_at=now - 88_000, fine_tuned_model=TUNED, trained_tokens=184_320),
                job("ftjob-earlier1", "succeeded", 500_000, {"phase": "Succeeded"}, finished_at=now - 498_500,
                    fine_tuned_model=EARLIER),
                job(FAILED, "failed", 50_000, {"phase": "Failed"}, finished_at=now - 49_000, error=error),
                job(RUNNING, "running", 700, _STATUS | {"phase": "Training", "progress": progress, "measured": {}},
                    estimated_finish=now + 905),
                job(PAUSED, "paused", 4000, {"conditions": condition("Suspended", "The job is suspended")}),
                job("ftjob-cancel01", "cancelled", 300_000, {}, finished_at=now - 299_000),
            ]
        )  # fmt: skip
        await session.flush()
        for name, of in ((TUNED, DONE), (EARLIER, "ftjob-earlier1")):
            session.add(
                TunedModel(
                    id=name, project_id=project_id, job_id=of, base="tiny", artifact=artifact, workspace="tiny",
                    wanted="awake" if endpoint else "asleep", endpoint=endpoint, created_at=now - len(name),
                )
            )  # fmt: skip
        session.add(
            Checkpoint(
                id="ftckpt_1", job_id=DONE, step=STEPS, model=f"{TUNED}:ckpt-step-{STEPS}", created_at=now - 88_000,
                metrics={"step": STEPS, "full_valid_loss": 0.84},
            )
        )  # fmt: skip
        for id, steps in ((DONE, STEPS), (RUNNING, 48)):
            session.add_all(_events(id, steps, now - 600))
        session.add_all(
            Usage(
                project_id=project_id, day=now // 86_400 - age, model=model, requests=40 + age * 7 % 31,
                input_tokens=9_000 + 4_000 * (age * 5 % 7), output_tokens=3_000 + 1_500 * (age % 4),
                trained_tokens=184_320 if age % 6 == 1 and model == TUNED else 0,
                gpu_seconds=1512.0 if age % 6 == 1 and model == TUNED else 0.0,
            )
            for age in range(24)
            for model in ("tiny", TUNED)
            if age % 5 != 3
        )  # fmt: skip


def _events(id: str, steps: int, at: int) -> list[JobEvent]:
    texts: list[tuple[str, str, str, dict[str, Any]]] = [
        ("info", "message", f"Created fine-tuning job: {id}", {}),
        ("info", "message", "Files validated, moving job to queued state", {}),
        ("warn", "message", "No machine has a free place; the job waits", {}),
        ("info", "message", "Fine-tuning job started", {}),
    ]
    for row in curve(steps):
        data = {"step": row["step"], "train_loss": row["loss"], "total_steps": STEPS}
        if "evalLoss" in row:
            data["valid_loss"] = row["evalLoss"]
        texts.append(("info", "metrics", f"Step {row['step']}/{STEPS}: training loss={row['loss']:.4f}", data))
    return [
        JobEvent(
            id=f"ftevent-{id[-8:]}{number}", job_id=id, number=number, level=level, type=type, message=message,
            data=data, created_at=at + number,
        )
        for number, (level, type, message, data) in enumerate(texts, 1)
    ]  # fmt: skip


def _artifact(folder: Path) -> str:
    """Write what a job leaves, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_log.jsonl").write_bytes(lines(curve(STEPS)))
    rows = [
        {
            "row": n,
            "location": f"rows.jsonl:{n}",
            "prompt": prompt,
            "reference": reference,
            "before": "I do not know.",
            "after": after,
            "served": {"int4": after},
        }
        for n, (prompt, reference, after) in enumerate(
            [
                ("How do I send back a lamp?", "Open Returns, choose the order, and print the label.", "Open Orders."),
                ("When do you deliver on Sundays?", "We do not deliver on Sundays.", "We deliver on Mondays."),
            ],
            1,
        )
    ]
    (folder / "predictions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return str(folder)
