"""The object of a response."""

import time
import uuid
from typing import Any

from tunesmith_serving.engines.text_generation.openai.responses_api.request import ResponsesRequest


class ResponseObject:
    """A response: what was asked for, and what has become of it."""

    def __init__(self, request: ResponsesRequest, model: str) -> None:
        form = request.text.format
        choice = "auto" if request.tool_choice is None else request.tool_choice
        self._fields: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": None,
            "metadata": request.metadata,
            "model": model,
            "output": [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "text": {"format": {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": choice,
            "tools": [{"parameters": None, "strict": None, **tool} for tool in request.tools],
            "top_logprobs": request.top_logprobs or 0,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": None,
        }

    def running(self) -> dict[str, Any]:
        """Return it while it is generated."""
        return self._fields

    def ended(self, output: list[dict[str, Any]], is_whole: bool, usage: dict[str, Any]) -> dict[str, Any]:
        """Return it with its output.

        Args:
            output: Its items.
            is_whole: Whether the answer has ended by itself, and was not cut at the most tokens.
            usage: `usage` of chat completions.
        """
        return {
            **self._fields,
            "status": "completed" if is_whole else "incomplete",
            "completed_at": int(time.time()) if is_whole else None,
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "output": output,
            "usage": _usage(usage),
        }

    def failed(self, output: list[dict[str, Any]], message: str, *, by_request: bool) -> dict[str, Any]:
        """Return it after the generation failed, which may be the request's own fault."""
        error = {"code": "invalid_prompt" if by_request else "server_error", "message": message}
        return {**self._fields, "status": "failed", "error": error, "output": output}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
