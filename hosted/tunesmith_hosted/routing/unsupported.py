"""What OpenAI's clients can ask for and the service does not offer: answered with what to do instead.

They are not in the OpenAPI document, which says what there is. The status is 404, since clients send a request again
after 501 as they do after any failure of a server.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from tunesmith_hosted.http.caller import Caller, caller_of
from tunesmith_hosted.http.errors import ApiError

_RESPONSES = "Responses are not stored, so there is none by an id; keep the answer to POST /v1/responses"
_CHATS = "Chat completions are not stored; keep the answer to POST /v1/chat/completions"
_GRADERS = (
    "Graders belong to reinforcement fine-tuning, which is not offered; create a job with method.type supervised or "
    "dpo, and compare its model's answers with those of a validation_file"
)

UNSUPPORTED: tuple[tuple[str, str, str], ...] = (
    ("GET", "/responses", "Responses are not sent over websockets; use POST /v1/responses with stream true"),
    ("GET", "/responses/{id}", _RESPONSES),
    ("DELETE", "/responses/{id}", _RESPONSES),
    ("GET", "/responses/{id}/input_items", _RESPONSES),
    ("POST", "/responses/{id}/cancel", f"{_RESPONSES}, and close its connection to cancel it"),
    ("POST", "/responses/compact", "Compacting is not offered; ask the model for a summary, and send that in input"),
    (
        "POST",
        "/responses/input_tokens",
        "Counting alone is not offered; send the request to POST /v1/responses and read usage.input_tokens",
    ),
    ("GET", "/chat/completions", _CHATS),
    ("GET", "/chat/completions/{id}", _CHATS),
    ("POST", "/chat/completions/{id}", _CHATS),
    ("DELETE", "/chat/completions/{id}", _CHATS),
    ("GET", "/chat/completions/{id}/messages", _CHATS),
    ("POST", "/fine_tuning/alpha/graders/run", _GRADERS),
    ("POST", "/fine_tuning/alpha/graders/validate", _GRADERS),
)
"""Method, path and what to do instead."""

router = APIRouter(prefix="/v1")


def _refusing(message: str) -> Callable[[Caller], Coroutine[Any, Any, JSONResponse]]:
    async def refuse(caller: Annotated[Caller, Depends(caller_of)]) -> JSONResponse:
        return ApiError(404, message, code="unsupported_endpoint").response()

    return refuse


for _method, _path, _message in UNSUPPORTED:
    router.add_api_route(_path, _refusing(_message), methods=[_method], include_in_schema=False)
