"""Operator settings, read from environment variables `TUNESMITH_...` that the chart sets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tunesmith_api.objects.resources import AUTO_MACHINE
from tunesmith_api.planner import Machine, parse_machines
from tunesmith_api.planner.hub import HUB_ENDPOINT
from tunesmith_api.spec.execution_providers import EXECUTION_PROVIDERS

_PREFIX = "TUNESMITH_"


def _parsed(table: object) -> object:
    """Return the rows of a table of machines that is given as JSON."""
    if not isinstance(table, str):
        return table
    machines = parse_machines(table or "[]")
    for index, machine in enumerate(machines):
        if machine.name == AUTO_MACHINE:
            raise ValueError(f"machines[{index}].name: {AUTO_MACHINE} means the cheapest that fits; write another name")
    return machines


def _images(table: object) -> object:
    """Return the images by execution provider that are given as JSON.

    Raises:
        ValueError: It is not JSON, or names something that is no execution provider.
    """
    images = json.loads(table or "{}") if isinstance(table, str) else table
    if isinstance(images, dict) and (unknown := sorted(set(images) - set(EXECUTION_PROVIDERS))):
        raise ValueError(f"{unknown[0]} is no execution provider; write one of {', '.join(EXECUTION_PROVIDERS)}")
    return images


class OperatorSettings(BaseModel):
    """The operator's configuration. The field `trainer_image` is read from the variable `TUNESMITH_TRAINER_IMAGE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: Annotated[
        tuple[str, ...], Field(description="Namespaces that are watched, separated by commas; all when empty.")
    ] = ()
    pod_namespace: Annotated[str, Field(description="Namespace that the operator itself runs in.")] = "tunesmith-system"
    pod_name: Annotated[str, Field(description="Name of this replica, as the holder of the lease.")] = ""
    trainer_image: Annotated[str, Field(description="Image of the three stages.")] = "tunesmith-trainer:0.1.0"
    serving_image: Annotated[str, Field(description="Image of the servers.")] = "tunesmith-serving:0.1.0"
    serving_images: Annotated[
        dict[str, str],
        BeforeValidator(_images),
        Field(description="Images of the servers by execution provider, as a JSON object; servingImage for others."),
    ] = {}
    image_pull_policy: Annotated[str, Field(description="Pull policy of both.")] = "IfNotPresent"
    image_pull_secrets: Annotated[
        tuple[str, ...], Field(description="Secrets of a registry, in the namespaces of the jobs, separated by commas.")
    ] = ()
    machines: Annotated[
        tuple[Machine, ...],
        BeforeValidator(_parsed),
        Field(description="Machines that spec.resources.machine names, as a JSON list."),
    ] = ()
    hub_endpoint: Annotated[
        str,
        Field(
            pattern="^(https?://.+)?$",
            description="URL of a mirror of the Hugging Face hub, also for the stages; HF_ENDPOINT when unset.",
        ),
    ] = ""
    leader_election: Annotated[bool, Field(description="Whether a Lease decides who reconciles.")] = True
    lease_name: Annotated[str, Field(description="Name of the Lease, in podNamespace.")] = "tunesmith-operator"
    lease_seconds: Annotated[float, Field(ge=1, description="Seconds until a lease that is not renewed is free.")] = 15
    workers: Annotated[int, Field(ge=1, le=256, description="Objects that are reconciled at the same time.")] = 16
    resync_seconds: Annotated[float, Field(ge=1, description="Seconds between two lists of every object.")] = 300
    watch_seconds: Annotated[float, Field(ge=5, description="Seconds after which a watch is opened again.")] = 240
    health_port: Annotated[int, Field(ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")] = 8080
    progress_port: Annotated[
        int, Field(ge=0, le=65535, description="Port on which training pods report progress over HTTPS; 0 for none.")
    ] = 8443
    progress_url: Annotated[
        str, Field(description="URL of that port as training pods reach it; progress is not reported when empty.")
    ] = ""
    progress_secret: Annotated[
        str, Field(description="Secret in podNamespace that keeps the progress server's certificate.")
    ] = "tunesmith-progress"  # noqa: S105 - a name
    cluster_domain: Annotated[str, Field(description="DNS domain of the cluster.")] = "cluster.local"
    log_format: Annotated[str, Field(pattern="^(json|text)$", description="json or text.")] = "json"
    log_level: Annotated[
        str, Field(pattern="^(debug|info|warning|error)$", description="Lowest level that is logged.")
    ] = "info"

    def serving_image_of(self, provider: str) -> str:
        """Return the image of the servers that compute with an execution provider."""
        return self.serving_images.get(provider, self.serving_image)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> OperatorSettings:
        """Return the settings from environment variables; unset ones have their defaults.

        Raises:
            pydantic.ValidationError: A variable's value is not valid.
        """
        given: dict[str, object] = {}
        for name, info in cls.model_fields.items():
            text = environment.get(_PREFIX + name.upper())
            if name == "hub_endpoint":
                text = text or environment.get(HUB_ENDPOINT)
            if text is None:
                continue
            is_list = info.annotation == tuple[str, ...]
            given[name] = tuple(part.strip() for part in text.split(",") if part.strip()) if is_list else text
        return cls.model_validate(given)
