"""The method of a job, from the fields that its request has for it."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.fine_tuning.requests import CreateJob, DpoHyperparameters, Hyperparameters
from tunesmith_hosted.http.errors import ApiError


def method_of(request: CreateJob) -> dict[str, Any]:
    """Return the method with all its hyper-parameters, as the API shows it; what is not given is "auto".

    Raises:
        ApiError: The fields contradict each other, or ask for what there is not.
    """
    method = request.method
    if method is None:
        return _shown("supervised", request.hyperparameters or Hyperparameters())
    if request.hyperparameters is not None:
        message = f"hyperparameters is the old form; write method.{method.type}.hyperparameters alone"
        raise ApiError(400, message, param="hyperparameters", code="invalid_value")
    if method.type == "reinforcement":
        message = "Fine-tuning by reinforcement is not offered; write method.type supervised or dpo"
        raise ApiError(400, message, param="method.type", code="unsupported_value")
    for name in {"supervised", "dpo", "reinforcement"} - {method.type}:
        if getattr(method, name) is not None:
            message = f"method.{name} has no meaning with method.type {method.type}; remove it"
            raise ApiError(400, message, param=f"method.{name}", code="invalid_value")
    if method.type == "dpo":
        return _shown("dpo", (method.dpo and method.dpo.hyperparameters) or DpoHyperparameters())
    return _shown("supervised", (method.supervised and method.supervised.hyperparameters) or Hyperparameters())


def hyperparameters_of(method: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a job's method."""
    found: dict[str, Any] = method[method["type"]]["hyperparameters"]
    return found


def with_hyperparameters(method: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the method with hyper-parameters that were chosen for it."""
    kind = method["type"]
    return {"type": kind, kind: {"hyperparameters": {**hyperparameters_of(method), **chosen}}}


def _shown(kind: str, given: Hyperparameters) -> dict[str, Any]:
    return {"type": kind, kind: {"hyperparameters": given.model_dump()}}
