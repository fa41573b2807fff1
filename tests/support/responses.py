"""Streams of OpenAI's Responses API, event by event."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from support.serving_process import ServingProcess

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def events_of(server: ServingProcess, **body: Any) -> list[dict[str, Any]]:
    """The raw events of a stream, each valid by the client's types, numbered from 0 and named as their type says."""

    def read() -> Iterator[dict[str, Any]]:
        with httpx.stream("POST", f"{server.url}/v1/responses", json={**body, "stream": True}, timeout=300) as response:
            assert response.status_code == 200
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line:
                    event = json.loads(line.removeprefix("data: "))
                    assert event["type"] == name
                    assert type(EVENT.validate_python(event)).model_fields["type"].annotation == Literal[name]  # type: ignore[valid-type]
                    yield event

    events = list(read())
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    output = [
        {key: value for key, value in item.items() if key not in ("id", "call_id")} for item in response["output"]
    ]
    return {**response, "id": "", "created_at": 0, "completed_at": 0, "output": output}
