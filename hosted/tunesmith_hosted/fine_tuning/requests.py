"""The request that creates a job: its fields, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

_SUFFIX = re.compile(r"[A-Za-z0-9._ -]{1,64}")
_NUMBER = {"anyOf": [{"type": "string", "enum": ["auto"]}, {"type": "number"}]}


# Of metadata, in characters.
_MOST_KEY, _MOST_TEXT = 64, 512


def _auto_or(kind: type[int] | type[float], least: float, most: float) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if value == "auto":
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (kind is int and int(value) != value) or not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f'write "auto", or {what} from {least:g} to {most:g}')
        return kind(value)

    return check


def _suffix(value: str) -> str:
    if not _SUFFIX.fullmatch(value):
        raise ValueError("write 1 to 64 letters, digits, dots, dashes, underscores or spaces")
    return value


def _metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > 16:
        raise ValueError(f"has {len(value)} pairs; at most 16 are kept")
    for key, text in value.items():
        if len(key) > _MOST_KEY or len(text) > _MOST_TEXT:
            raise ValueError("keys have at most 64 characters and values at most 512")
    return value


Epochs = Annotated[Any, PlainValidator(_auto_or(int, 1, 1000)), WithJsonSchema(_NUMBER)]
BatchSize = Annotated[Any, PlainValidator(_auto_or(int, 1, 4096)), WithJsonSchema(_NUMBER)]
Multiplier = Annotated[Any, PlainValidator(_auto_or(float, 1e-4, 1000)), WithJsonSchema(_NUMBER)]
Beta = Annotated[Any, PlainValidator(_auto_or(float, 1e-4, 100)), WithJsonSchema(_NUMBER)]


ProjectId = Annotated[str, Field(min_length=1, max_length=64)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hyperparameters(_Request):
    """Hyper-parameters of both methods; "auto" lets the service choose."""

    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"


class DpoHyperparameters(Hyperparameters):
    """Hyper-parameters of learning from preferences."""

    beta: Beta = "auto"


class Supervised(_Request):
    """`method.supervised`."""

    hyperparameters: Hyperparameters | None = None


class Dpo(_Request):
    """`method.dpo`."""

    hyperparameters: DpoHyperparameters | None = None


class Method(_Request):
    """How to learn from the rows."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class CreateJob(_Request):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, Field(min_length=1, max_length=255)]
    training_file: Annotated[str, Field(min_length=1, max_length=64)]
    validation_file: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[str, AfterValidator(_suffix)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: Annotated[dict[str, str], AfterValidator(_metadata)] | None = None
    integrations: list[dict[str, Any]] | None = None


class GrantPermissions(_Request):
    """The body of `POST /v1/fine_tuning/checkpoints/{checkpoint}/permissions`."""

    project_ids: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=100)
    ]
