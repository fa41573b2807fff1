"""What all routes have in common: errors in OpenAI's form, request ids, the log, metrics."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from fastapi import APIRouter, Request

from support.hosted import Hosted, serving
from tunesmith_hosted.process import app
from tunesmith_hosted.process.logs import JsonFormatter

router = APIRouter(prefix="/v1/try")
CALLS: list[bytes] = []


@router.post("/things/{name}")
async def create(name: str, request: Request, count: int = 1) -> dict[str, Any]:
    CALLS.append(await request.body())
    if name == "broken":
        raise RuntimeError("canary-of-the-code")
    return {"calls": len(CALLS), "count": count}


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ROUTERS", (*app.ROUTERS, router))
        with serving(tmp_path_factory.mktemp("hosted"), None) as service:
            yield service


def post(hosted: Hosted, path: str, key: str = "", other: bool = False, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {hosted.other_key if other else hosted.key}"}
    if key:
        headers["Idempotency-Key"] = key
    return httpx.post(f"{hosted.url}/v1/try/{path}", headers=headers, **options)


def test_errors_have_openais_form(hosted: Hosted) -> None:
    client = hosted.client()
    with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(GET /v1/nothing\)"):
        client.get("/nothing", cast_to=object)
    with pytest.raises(openai.BadRequestError, match="count") as wrong:
        client.post("/try/things/x?count=many", cast_to=object)
    assert (wrong.value.param, wrong.value.code) == ("count", "invalid_value")
    with pytest.raises(openai.InternalServerError, match="finds it in the log as req_") as broken:
        client.post("/try/things/broken", cast_to=object)
    assert broken.value.type == "server_error" and "canary" not in str(broken.value)
    assert broken.value.request_id and broken.value.request_id in str(broken.value)
    refused = httpx.delete(f"{hosted.url}/v1/try/things/x")
    assert refused.status_code == 405 and refused.headers["allow"] == "POST"
    assert refused.json()["error"]["code"] == "method_not_supported"


def test_a_key_is_for_its_own_organization_and_project(hosted: Hosted) -> None:
    for header in ("OpenAI-Organization", "OpenAI-Project"):
        with pytest.raises(openai.AuthenticationError, match=header):
            hosted.client(default_headers={header: "other"}).post("/try/things/x", cast_to=object)
    assert hosted.client(organization="acme").post("/try/things/x", cast_to=object)


def test_answers_have_ids_and_times(hosted: Hosted) -> None:
    first, second = post(hosted, "things/x"), post(hosted, "things/x")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 0


def test_a_repeated_request_is_answered_again_and_does_nothing(hosted: Hosted) -> None:
    first = post(hosted, "things/x", "once", json={"a": 1})
    again = post(hosted, "things/x", "once", json={"a": 1})
    assert (again.status_code, again.json()) == (200, first.json())
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    changed = post(hosted, "things/x", "once", json={"a": 2})
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert post(hosted, "things/y", "once", json={"a": 1}).status_code == 409
    assert post(hosted, "things/x", "once", other=True, json={"a": 1}).json() != first.json()
    assert post(hosted, "things/x", "x" * 256).status_code == 400


def test_a_request_that_failed_may_be_repeated(hosted: Hosted) -> None:
    before = len(CALLS)
    assert [post(hosted, "things/broken", "broken").status_code for _ in range(2)] == [500, 500]
    assert len(CALLS) == before + 2


def test_log_and_metrics_hold_no_key_body_or_name(hosted: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        post(hosted, "things/canary-name?count=3&canary-query=1", "canary-idempotency", json={"row": "canary-row"})
        httpx.get(f"{hosted.url}/canary-path", headers={"Authorization": "Bearer sk-ts-canary-key"})
        text = httpx.get(f"{hosted.url}/metrics").text
    formatter = JsonFormatter()
    lines = [formatter.format(record) for record in caplog.records if record.name.startswith("tunesmith_hosted")]
    logged = [json.loads(line) for line in lines]
    assert [(line["route"], line["status"]) for line in logged] == [("/v1/try/things/{name}", 200), ("none", 401)]
    assert logged[0]["project"].startswith("proj_") and logged[0]["actor"].startswith("key_")
    assert 'route="/v1/try/things/{name}"' in text
    for output in ("".join(lines), text):
        assert "canary" not in output and hosted.key not in output and "sk-ts" not in output
        assert "acme" not in output
