"""When a job runs, how long, and how often it is tried."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.spec import SpecModel
from tunesmith_api.spec.names import DNS_SUBDOMAIN

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class SchedulingSpec(SpecModel):
    """When a job runs, how long, and how often it is tried. Concerns clusters only."""

    queue_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=_DNS_LABEL,
            description="LocalQueue of Kueue that admits the job's stages, one after the other.",
            examples=["team-queue"],
        ),
    ] = None
    priority_class_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="PriorityClass of the pods.",
            examples=["batch-low"],
        ),
    ] = None
    active_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="Seconds after which the job is ended as DeadlineExceeded, from its first stage to its last. "
            "Time in which it is suspended or waits in a queue does not count.",
            examples=[86_400],
        ),
    ] = None
    max_restarts: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="How often a stage is started again after a failure that may pass. "
            "Evictions, spot preemptions and drained nodes do not count.",
        ),
    ] = 3
