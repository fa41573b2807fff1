"""The status fields that both kinds have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith_api.objects.metadata import StatusModel


class Condition(StatusModel):
    """One condition, in the form of metav1.Condition."""

    type: Annotated[str, Field(max_length=316, description="Name of the condition: Ready, Reconciling or Stalled.")]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="Whether the condition holds: True, False or Unknown.")
    ]
    reason: Annotated[str, Field(max_length=1024, description="Why, as one word from a closed list.")]
    message: Annotated[str, Field(max_length=32768, description="Why, in words, and what to do.")]
    last_transition_time: Annotated[
        str, Field(json_schema_extra={"format": "date-time"}, description="When the condition last changed its status.")
    ]
    observed_generation: Annotated[int | None, Field(description="Generation of the spec that it speaks of.")] = None


class ResolvedValue(StatusModel):
    """A value that was chosen for a field that the spec leaves open."""

    value: Annotated[
        Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}, description="The chosen value.")
    ]
    reason: Annotated[str, Field(description="Why this value.")]


class CommonStatus(StatusModel):
    """Status fields of both kinds."""

    observed_generation: Annotated[
        int | None, Field(description="Generation of the spec that this status speaks of; -1 before the first look.")
    ] = None
    phase: Annotated[str | None, Field(description="Where the object stands, in one word, for people.")] = None
    conditions: Annotated[
        list[Condition] | None,
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            description="Where the object stands, for machines: Ready, Reconciling, Stalled.",
        ),
    ] = None
    resolved: Annotated[
        dict[str, ResolvedValue] | None, Field(description="Every value that was chosen, by field, and why.")
    ] = None
