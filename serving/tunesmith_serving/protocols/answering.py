"""Asking the predictor for the answers to a request; its errors become responses."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import Request

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.predictor import (
    DrainingError,
    InvalidInputError,
    Predictor,
    QueueFullError,
    TooManyInputsError,
)
from tunesmith_serving.http.body import field_path
from tunesmith_serving.http.errors import ApiError, server_error, unavailable
from tunesmith_serving.http.sse import wait_for_disconnect


def with_adapter(parameters: Mapping[str, Any], adapter: str | None) -> dict[str, Any]:
    """Return the parameters of a request for a model by name, which may be that of an adapter.

    Raises:
        ApiError: They name another adapter.
    """
    given = parameters.get("adapter_id")
    if adapter is None or given == adapter:
        return dict(parameters)
    if given is not None:
        message = f"parameters.adapter_id: differs from the model {adapter!r} of the path; leave it out"
        raise ApiError(400, message, param="parameters.adapter_id", code="invalid_value")
    return {**parameters, "adapter_id": adapter}


async def answer(
    predictor: Predictor,
    request: Request,
    inputs: Sequence[Any],
    parameters: Mapping[str, Any],
    *,
    single: bool = False,
    invalid: int = 400,
) -> list[Any] | None:
    """Return the answers of a request whose body has been read, or None if the client has left.

    Args:
        predictor: The model.
        request: The request; its inputs are dropped from the queue when the client closes the connection.
        inputs: One or several inputs.
        parameters: What is asked of them.
        single: Whether the request names its one input without a list, for the place of errors.
        invalid: Status for an input or a parameter that is wrong.

    Raises:
        ApiError: There is no answer.
    """
    with predictor_errors(single, invalid):
        return await _unless_client_leaves(predictor, request, inputs, parameters)


async def _unless_client_leaves(
    predictor: Predictor, request: Request, inputs: Sequence[Any], parameters: Mapping[str, Any]
) -> list[Any] | None:
    asked = asyncio.ensure_future(predictor.predict(inputs, parameters))
    watcher = asyncio.ensure_future(wait_for_disconnect(request.receive))
    watcher.add_done_callback(lambda _: asked.cancel())
    try:
        return await asked
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled():
            return None
        raise
    finally:
        watcher.cancel()


@contextmanager
def predictor_errors(single: bool, invalid: int = 400) -> Iterator[None]:
    """Raise the errors of a predictor as ApiError; see `answer` for the arguments."""
    try:
        yield
    except InvalidInputError as error:
        where = error.where
        if single and where[:2] == ("inputs", 0):
            where = ("inputs", *where[2:])
        place = field_path(where)
        message = f"{place}: {error}" if place else str(error)
        raise ApiError(invalid, message, param=place or None, code="invalid_value") from None
    except TooManyInputsError as error:
        raise ApiError(413, str(error), param="inputs", code="too_many_inputs") from None
    except QueueFullError as error:
        headers = {"Retry-After": str(error.retry_after)}
        raise ApiError(429, str(error), type="rate_limit_error", code="queue_full", headers=headers) from None
    except DrainingError as error:
        raise unavailable(str(error)) from None
    except EngineFailedError as error:
        raise server_error(str(error)) from None
