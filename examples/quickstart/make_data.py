"""Write the quickstart's data: questions and answers about Tunesmith's own API, from its field descriptions.

Each field of both kinds that says what to train and to serve (not where in a cluster) is asked about in all phrasings
but one; the one left out (another for each field, so that training sees every phrasing, with other fields) goes to
validation.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from tunesmith_api.objects import FineTuneJob, InferenceWorkspace

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
import config_map as config_maps  # noqa: E402

PHRASINGS = (
    "What is {field} of a {kind}?",
    "What does {field} do in a {kind}?",
    "Explain {field} of {kind}.",
    "In a {kind}, what is {field} for?",
    "I see {field} in a {kind}. What does it mean?",
    "Tell me about {field} in {kind}.",
)
VALIDATION_ROWS = 50
# What says where and when a cluster runs it: as many questions again would make the quickstart twice as long.
LEFT_OUT = (
    "auth", "podTemplate", "resources", "rollout", "scheduling", "stages", "storage", "suspend",
    "ttlSecondsAfterFinished",
)  # fmt: skip


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the API models that a field's type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each field below a model."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if prefix and field.description:
            yield path, " ".join(field.description.split())
        for inner in models_in(field.annotation):
            yield from fields(inner, f"{path}.")


def questions() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for training and for validation."""
    train: list[dict[str, str]] = []
    validation: list[dict[str, str]] = []
    number = 0
    for model in (FineTuneJob, InferenceWorkspace):
        spec = typing.cast(type[BaseModel], model.model_fields["spec"].annotation)
        for path, description in fields(spec, "spec."):
            if path.split(".")[1] in LEFT_OUT or path.endswith("secretRef"):
                continue
            kept_out = number % len(PHRASINGS)
            for index, phrasing in enumerate(PHRASINGS):
                row = {"prompt": phrasing.format(field=path, kind=model.__name__), "completion": description}
                (validation if index == kept_out else train).append(row)
            number += 1
    step = len(validation) / VALIDATION_ROWS
    return train, [validation[int(i * step)] for i in range(VALIDATION_ROWS)]


def config_map(name: str) -> str:
    """Return the ConfigMap with both files, as YAML."""
    train, validation = questions()
    header = "Written by `make quickstart-data` from the descriptions of the API's fields."
    return config_maps.config_map(name, header, {"train.jsonl": train, "validation.jsonl": validation})


def main() -> None:
    """Write the ConfigMaps of the examples that use this data."""
    for example in ("quickstart", "smollm2"):
        (HERE.parent / example / "data.yaml").write_text(config_map(f"{example}-data"))
    train, validation = questions()
    print(f"{len(train)} rows to train on, {len(validation)} to evaluate on")


if __name__ == "__main__":
    main()
