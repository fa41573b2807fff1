"""From a file to the first answer of the model that it makes, on Kubernetes: by the hosted API, and by kubectl.

By the API: OpenAI's client uploads, creates a job, asks for its status once a second, and asks the model. By kubectl:
the same rows are put into the object store, and the same FineTuneJob is applied with an InferenceWorkspace that waits
for it; the server is asked as soon as the workspace is Ready. Rounds alternate; the table has the medians.

    make bench-hosted                               # the example's rows, 2 rounds: 5 minutes on 2 cores
    make bench-hosted ARGS="--rounds 5 --epochs 80"
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from cluster.client import Cluster
from cluster.errors import CannotRunError
from cluster.network import GATEWAY
from cluster_demo.install import connect, install
from support.hosted_release import BASES, EXAMPLE, Release, released
from support.operator import serves, service_url, succeeded
from support.postgres import running
from support.s3_server import BUCKET, S3Server, s3_server
from tunesmith_hosted.files.filesystems import open_filesystem

ROWS = (EXAMPLE / "train.jsonl").read_bytes()
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me about parking."}], "max_tokens": 4}
SECONDS = 600


def by_service(release: Release, key: str, epochs: int) -> tuple[float, dict[str, Any]]:
    """Return the seconds, and the FineTuneJob that the service has made."""
    client = release.client(key)
    begun = time.monotonic()
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASES[0]["name"], training_file=file.id, seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}},
    )  # fmt: skip
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed"):
        time.sleep(1)
    if job.fine_tuned_model is None:
        sys.exit(f"{job.id} has failed: {job.error}")
    client.chat.completions.create(model=job.fine_tuned_model, **ASKED)
    seconds = time.monotonic() - begun
    found = [
        item
        for item in release.cluster.list("FineTuneJob")
        if item["metadata"]["name"] == f"ft-{job.id.removeprefix('ftjob-').lower()}"
    ]
    client.models.delete(job.fine_tuned_model)  # its server would share the machine with the next round
    return seconds, found[0]


def by_kubectl(cluster: Cluster, store: S3Server, made: dict[str, Any]) -> float:
    """Return the seconds of the same FineTuneJob."""
    namespace = f"direct-{uuid.uuid4().hex[:6]}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": store.variables}
    cluster.create(secret, namespace)
    spec = made["spec"]
    spec["output"]["uri"] = f"s3://{BUCKET}/{namespace}/artifact"
    spec["dataset"]["sources"][0]["uri"] = f"s3://{BUCKET}/{namespace}/rows.jsonl"
    version, metadata = made["apiVersion"], {"name": "direct"}
    serving = {**BASES[0]["workspace"], "model": {"fineTuneJob": "direct"}}
    objects = [
        {"apiVersion": version, "kind": "FineTuneJob", "metadata": metadata, "spec": spec},
        {"apiVersion": version, "kind": "InferenceWorkspace", "metadata": metadata, "spec": serving},
    ]
    try:
        begun = time.monotonic()
        files, path = open_filesystem(f"s3://{BUCKET}/{namespace}/rows.jsonl")
        files.pipe_file(path, ROWS)
        for obj in objects:
            cluster.run("apply", "-n", namespace, "-f", "-", text=json.dumps(obj))
        serves(cluster, namespace, "direct", timeout=SECONDS)
        client = openai.OpenAI(base_url=service_url(cluster, namespace, "direct"), api_key="none")
        client.chat.completions.create(model="direct", **ASKED)
        seconds = time.monotonic() - begun
        succeeded(cluster, namespace, "direct")
        return seconds
    finally:
        cluster.delete("Namespace", namespace)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    try:
        cluster = connect()
        install(cluster)
    except CannotRunError as error:
        sys.exit(str(error))
    hosted, direct = [], []
    with (
        tempfile.TemporaryDirectory() as name,
        s3_server(Path(name), GATEWAY) as store,
        running(GATEWAY) as database,
        released(
            cluster, store, Path(name), {"database": {"url": database.create_database()}},
            replicas=1, database={"existingSecret": "database"},
        ) as release,
    ):  # fmt: skip
        os.environ.update(store.variables)
        key = release.create_project("acme/research")
        print("| round | hosted, s | by kubectl, s |\n|---|---|---|")
        for number in range(1, options.rounds + 1):
            seconds, made = by_service(release, key, options.epochs)
            hosted.append(seconds)
            direct.append(by_kubectl(cluster, store, made))
            print(f"| {number} | {hosted[-1]:.1f} | {direct[-1]:.1f} |", flush=True)
    first, second = statistics.median(hosted), statistics.median(direct)
    print(f"| median | {first:.1f} | {second:.1f} |\n\nratio {first / second:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
