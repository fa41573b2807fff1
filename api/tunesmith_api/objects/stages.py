"""What the stages before and after training get."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.objects.pod_template import Labels, Toleration
from tunesmith_api.spec import SpecModel
from tunesmith_api.spec.quantity import Cpu, Memory


class StageSpec(SpecModel):
    """What the pod of one stage gets, and where it runs."""

    cpu: Annotated[
        Cpu | None,
        Field(
            description='CPUs to ask for: 2, "0.5" or 500m. By default those of resources.cpu if training has no GPUs, '
            "else 250m.",
            examples=["4"],
        ),
    ] = None
    memory: Annotated[
        Memory | None,
        Field(
            description="Memory of the pod, as request and limit, with its unit; by default what the plan says.",
            examples=["16Gi"],
        ),
    ] = None
    gpus: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="GPUs of the pod, on nodes like those of training if nodeSelector names no others.",
        ),
    ] = 0
    node_selector: Annotated[
        Labels | None,
        Field(
            description="Labels of the nodes to run on. If training has no GPUs, its nodes by default, else any.",
            examples=[{"kubernetes.azure.com/agentpool": "cpu"}],
        ),
    ] = None
    tolerations: Annotated[
        tuple[Toleration, ...] | None,
        Field(
            max_length=32,
            description="Taints of nodes that do not keep the pod away; by default those of resources if its nodes are "
            "used.",
            examples=[[{"key": "team", "value": "search"}]],
        ),
    ] = None


class StagesSpec(SpecModel):
    """What the stages before and after training get. Training gets `resources`."""

    prepare: Annotated[
        StageSpec, Field(description="What prepare gets, which reads the model and the data.", examples=[{"cpu": "2"}])
    ] = StageSpec()
    publish: Annotated[
        StageSpec,
        Field(
            description="What publish gets, which merges, evaluates and exports the model.",
            examples=[{"memory": "16Gi"}],
        ),
    ] = StageSpec()
