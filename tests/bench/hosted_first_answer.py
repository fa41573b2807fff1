"""From a file to the first answer of the model that it makes: by the hosted service, and by the same two manifests.

By the service: OpenAI's client uploads, creates a job, asks for its status once a second, and asks the model. By the
manifests: the same FineTuneJob with an InferenceWorkspace that waits for it, applied to the backend that the service
has, which is what `tunesmith run` does; the server is asked as soon as it takes requests. Rounds alternate.

    python tests/bench/hosted_first_answer.py               # a tiny model, 300 steps: about 2 minutes on 2 cores
    python tests/bench/hosted_first_answer.py --steps 3000
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.hosted_command import hosted_command
from support.hosted_jobs import CHAT, lines
from support.manifests import job as tiny_job
from support.manifests import workspace as tiny_workspace
from tunesmith_api.manifests import load_documents
from tunesmith_api.manifests.files import Document
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_backend.local.backend import LocalBackend

ASKED = {"messages": [{"role": "user", "content": "What is 1?"}], "max_tokens": 4}
RUNTIME = tiny_workspace()["spec"]["runtime"]
ROWS = lines(CHAT * 20)


def by_service(folder: Path, steps: int) -> tuple[float, dict]:
    """Return the seconds, and the FineTuneJob that the service has made."""
    spec = tiny_job()["spec"]
    training = {**spec["training"], "maxSteps": steps}
    base = {
        "name": "tiny", "model": spec["model"], "method": "full", "context_length": 128,
        "workspace": {"runtime": RUNTIME},
        "job": {"training": training, "evaluation": spec["evaluation"], "export": spec["export"]},
    }  # fmt: skip
    with hosted_command(folder, bases=[base]) as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.key)
        begun = time.monotonic()
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, seed=1)
        while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed"):
            time.sleep(1)
        assert job.fine_tuned_model, job.error
        client.chat.completions.create(model=job.fine_tuned_model, **ASKED)
        seconds = time.monotonic() - begun
    with sqlite3.connect(folder / "hosted" / "tunesmith.db") as database:
        ((manifest,),) = database.execute("SELECT manifest FROM jobs")
    return seconds, json.loads(manifest)


def by_manifests(folder: Path, manifest: dict) -> float:
    """Return the seconds."""

    async def main() -> float:
        backend = LocalBackend(folder / "work")
        serving = tiny_workspace(manifest["metadata"]["name"])
        serving["metadata"]["namespace"] = manifest["metadata"]["namespace"]
        ref = ObjectRef("InferenceWorkspace", serving["metadata"]["name"], serving["metadata"]["namespace"])
        texts = (json.dumps(manifest), json.dumps(serving))
        loaded = load_documents([Document(folder / f"{number}.json", text) for number, text in enumerate(texts)])
        assert not loaded.findings, loaded.findings
        try:
            begun = time.monotonic()
            await backend.apply(loaded)
            while (endpoint := await backend.endpoint(ref)) is None:
                await asyncio.sleep(0.1)
            client = openai.AsyncOpenAI(base_url=endpoint, api_key="none")
            await client.chat.completions.create(model=ref.name, **ASKED)
            return time.monotonic() - begun
        finally:
            await backend.close()

    return asyncio.run(main())


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    hosted, direct = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            here = os.getcwd()
            seconds, manifest = by_service(Path(name), options.steps)
            hosted.append(seconds)
            os.chdir(name)
            direct.append(by_manifests(Path(name), manifest))
            os.chdir(here)
    first, second = statistics.median(hosted), statistics.median(direct)
    print("| steps | hosted, s | by manifests, s | ratio |\n|---|---|---|---|")
    print(f"| {options.steps} | {first:.1f} | {second:.1f} | {first / second:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
