"""Whatever is asked of the service, it does not fail: requests are made from its own OpenAPI document.

`make hosted-fuzz` asks 10,000 times, with another seed each time.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode

from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines
from support.hosted_models import add_checkpoint, add_model, add_project, project_of
from support.hosted_served import serving_base

FEW = 500
CASES = int(os.environ.get("CASES", str(FEW)))
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
WITHOUT_LIMIT = {"requests_a_minute": None, "tokens_a_minute": None, "jobs_at_once": None}
# A page or a model's answer is not an object of this API's own form.
PLAIN = {"/v1/files/{file_id}/content", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/events"}


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving_base(tmp_path_factory.mktemp("hosted"), quotas=WITHOUT_LIMIT) as service:
        yield service


@dataclass(frozen=True)
class There:
    """Names of what is there, by the parameters and fields that name it: random names would reach little code."""

    names: dict[str, list[str]]

    def put(self, case: Case, draw: Callable[[Any], Any]) -> None:
        """Put some of them into a request."""
        body = case.body if isinstance(case.body, dict) else {}
        for values in (case.path_parameters, case.query, body):
            for name in values or {}:
                if name in self.names and draw(st.booleans()):
                    values[name] = draw(st.sampled_from(self.names[name]))


@pytest.fixture(scope="module")
def there(hosted: Hosted) -> There:
    client = hosted.client()
    rows = ("rows.jsonl", lines(CHAT))
    files = [client.files.create(file=rows, purpose="fine-tune").id for _ in range(3)]
    job = client.fine_tuning.jobs.create(model="tiny", training_file=files[0])
    client.fine_tuning.jobs.cancel(job.id)  # the stream of its events has an end
    upload = client.uploads.create(bytes=9, filename="a", mime_type="text/plain", purpose="fine-tune").id
    part = client.uploads.parts.create(upload, data=b"123456789").id
    tuned = add_model(hosted, hosted.key, "there")
    checkpoint = add_checkpoint(hosted, tuned, 3)
    project = project_of(hosted, add_project(hosted, "acme", "there"))
    permissions = client.fine_tuning.checkpoints.permissions.create(checkpoint, project_ids=[project])
    # Not the caller's own project, whose limits and keys the other requests need.
    answer = httpx.post(
        f"{hosted.url}/v1/organization/projects/{project}/api_keys",
        headers={"Authorization": f"Bearer {hosted.key}"},
        json={"name": "there"},
    )
    answer.raise_for_status()
    return There(
        {
            "file_id": files,
            "training_file": files,
            "validation_file": files,
            "fine_tuning_job_id": [job.id],
            "upload_id": [upload],
            "part_ids": [part],
            "model": ["tiny", "gpt-4o-mini-2024-07-18"],
            "checkpoint": [checkpoint],
            "permission_id": [permission.id for permission in permissions],
            "project_id": [project],
            "api_key_id": [answer.json()["id"]],
            "after": [*files, job.id, project],
            "before": [*files, job.id, project],
        }
    )


def operations(hosted: Hosted) -> list[APIOperation]:
    """Return the operations of the document; those that delete come last."""
    document = httpx.get(f"{hosted.url}/openapi.json").json()
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    return sorted(found, key=lambda operation: (operation.method.upper() == "DELETE", operation.label))


def test_the_service_does_not_fail(hosted: Hosted, there: There) -> None:
    found = operations(hosted)
    assert len(found) > 30
    tried = 0
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {hosted.key}"
        for number, operation in enumerate(found):
            # Of some operations there are few different requests: the others get more.
            share = max(1, -(-(CASES - tried) // (len(found) - number)))

            @settings(
                max_examples=share,
                phases=(Phase.generate,) if CASES == FEW else (Phase.generate, Phase.shrink),
                derandomize=CASES == FEW,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.data())
            def attempt(data: st.DataObject) -> None:
                nonlocal tried
                case = data.draw(
                    operation.as_strategy(  # noqa: B023 - called in this turn of the loop
                        data.draw(st.sampled_from(MODES))
                    )
                )
                there.put(case, data.draw)
                answer = case.call(base_url=hosted.url, session=session, timeout=300)
                tried += 1
                check(case, answer)

            attempt()
    assert tried >= CASES
    assert hosted.client().models.retrieve("tiny").id == "tiny"


def check(case: Case, answer: Any) -> None:
    """Check that the service has not failed, and that an error has OpenAI's form."""
    sent = (
        f"{case.method} {case.path}: {answer.status_code} {answer.content[:300]!r} to {case.as_curl_command()[:2000]}"
    )
    assert answer.status_code < 500, sent
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"], sent
    elif case.path not in PLAIN and "event-stream" not in answer.headers.get("content-type", [""])[0]:
        assert isinstance(answer.json(), dict), sent


def test_the_key_is_asked_for_everywhere(hosted: Hosted) -> None:
    """No operation of the document works without a key."""
    for operation in operations(hosted):
        path = operation.path.replace("{", "").replace("}", "")
        answer = httpx.request(operation.method, hosted.url + path)
        assert answer.status_code == 401, (operation.label, answer.status_code, answer.text)
    with pytest.raises(openai.AuthenticationError):
        hosted.client("sk-ts-unknown").models.list()
