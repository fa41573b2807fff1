"""The hosted API of the chart: the example's script from file to answer, and an upgrade while a job trains."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from cluster.client import Cluster
from cluster.errors import CannotRunError
from cluster.network import GATEWAY
from support.cluster_fixtures import turn
from support.hosted_release import EXAMPLE, NAME, Release, released
from support.postgres import running
from support.s3_server import s3_server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUESTION = [
    {"role": "system", "content": "You answer for the town library."},
    {"role": "user", "content": "Do you know anything about parking?"},
]
ANSWER = "Parking behind the house is free for two hours."
QUOTAS = {"requestsAMinute": 100_000, "tokensAMinute": 10_000_000}


@dataclass(frozen=True)
class Service:
    """A release with PostgreSQL, a project in it, and the key of that."""

    release: Release
    key: str
    said: str = field(repr=False)

    def client(self, **options: Any) -> openai.OpenAI:
        return self.release.client(self.key, **options)


@pytest.fixture(scope="module")
def service(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A release for which the installed operator works, once the example's script has run against it."""
    if installed.name is None:
        pytest.skip("PostgreSQL and the object store are processes of this machine, which other clusters do not reach.")
    try:
        with (
            s3_server(tmp_path_factory.mktemp("store"), GATEWAY) as store,
            running(GATEWAY) as database,
            turn(),
            released(
                installed, store, tmp_path_factory.mktemp("values"), {"database": {"url": database.create_database()}},
                replicas=2, database={"existingSecret": "database"}, quotas=QUOTAS,
            ) as release,
        ):  # fmt: skip
            key = release.create_project("acme/research")
            yield Service(release, key, run_example(release.url, key))
    except CannotRunError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


def run_example(url: str, key: str) -> str:
    """Run the script that `make hosted` runs, as it is, and return what it says."""
    environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    command = [sys.executable, str(EXAMPLE / "train.py")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_goes_from_file_to_answer(service: Service) -> None:
    said = service.said.splitlines()
    lines = [
        next((number for number, line in enumerate(said) if line.startswith(beginning)), None)
        for beginning in (
            "uploaded train.jsonl", "created ftjob-", "  Fine-tuning job started", "  Step ", "pausing ...",
            "  Fine-tuning job paused", "paused; then queued", "  Resuming", "  Fine-tuning job goes on",
            "  The job has successfully completed", "results: step,train_loss", "checkpoint of step ",
        )
    ]  # fmt: skip
    assert None not in lines, f"{lines}\n{service.said}"
    assert lines == sorted(lines), service.said
    # How many of eight questions that it has not seen a model of this size answers depends on the processor's rounding.
    (right,) = (int(found[1]) for line in said if (found := re.match(r"(\d) of 8 answers", line)))
    assert right >= 5, service.said
    # It was paused after its first steps, and trained to its end.
    steps = [int(found[1]) for line in said if (found := re.match(r"  Step (\d+)/320", line))]
    assert steps == sorted(set(steps)) and steps[-1] == 320, service.said

    client = service.client()
    (job,) = client.fine_tuning.jobs.list()
    assert job.fine_tuned_model is not None and job.fine_tuned_model.startswith("ft:tiny-llama:acme:library:")
    with client.fine_tuning.jobs.with_streaming_response.list_events(job.id, extra_query={"stream": "true"}) as events:
        assert any("training loss=" in line for line in events.iter_lines())
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=QUESTION, max_tokens=64, temperature=0)
    assert (answer.model, answer.choices[0].message.content) == (job.fine_tuned_model, ANSWER)
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    (result,) = job.result_files
    assert client.files.content(result).read().startswith(b"step,train_loss")
    assert service.release.refused() == []


class Asking:
    """Asks a model without an end, each time by a connection of its own and without a second try.

    Attributes:
        failures: What was not answered as it should be.
        answers: How often it was.
    """

    def __init__(self, service: Service, model: str) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._service, self._model = service, model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            with self._service.client(max_retries=0, timeout=30) as client:
                try:
                    chunks = client.chat.completions.create(
                        model=self._model, messages=QUESTION, max_tokens=64, temperature=0, stream=True
                    )
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
                    assert text == ANSWER, text
                    self.answers += 1
                except (openai.OpenAIError, AssertionError) as error:
                    self.failures.append(repr(error))


def test_an_upgrade_keeps_answering_and_loses_nothing(service: Service) -> None:
    release, client = service.release, service.client()
    (first,) = client.fine_tuning.jobs.list()
    assert first.fine_tuned_model is not None
    files = {file.id for file in client.files.list()}
    assert limit(client, first.fine_tuned_model) == 100_000
    second = client.fine_tuning.jobs.create(
        model="tiny-llama", training_file=first.training_file, suffix="upgraded",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    )  # fmt: skip
    with Asking(service, first.fine_tuned_model) as asking:
        release.upgrade(quotas={**QUOTAS, "requestsAMinute": 200_000})
    assert asking.failures == [] and asking.answers > 20
    assert limit(client, first.fine_tuned_model) == 200_000
    assert migrations(release) == 2  # at the installation, and before the new pods

    with client.fine_tuning.jobs.with_streaming_response.list_events(
        second.id, extra_query={"stream": "true"}, timeout=600
    ) as events:
        told = [json.loads(line[6:])["message"] for line in events.iter_lines() if line.startswith("data: {")]
    assert len(told) == len(set(told))
    second = client.fine_tuning.jobs.retrieve(second.id)
    assert second.status == "succeeded", (second.error, told)
    assert [job.id for job in client.fine_tuning.jobs.list()] == [second.id, first.id]
    assert files | set(second.result_files) == {file.id for file in client.files.list()}
    models = {model.id for model in client.models.list()}
    assert {first.fine_tuned_model, second.fine_tuned_model} <= models
    assert release.refused() == []


def limit(client: openai.OpenAI, model: str) -> int:
    """Return how many requests a minute a project may send, as answers say."""
    answer = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION, max_tokens=1)
    return int(answer.headers["x-ratelimit-limit-requests"])


def migrations(release: Release) -> int:
    """Return how many of the chart's hooks have migrated the tables."""
    fields = f"involvedObject.kind=Job,involvedObject.name={NAME}-migrate,reason=Completed"
    listed = release.cluster.run("get", "events", "-n", release.namespace, "--field-selector", fields, "-o", "json")
    return len({event["involvedObject"]["uid"] for event in json.loads(listed)["items"]})
