"""The administrator's list of base models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["lora", "qlora", "dora", "qdora", "full"]


class BaseModelSettings(BaseModel):
    """A model that can be asked and fine-tuned.

    Attributes:
        name: Public name, such as `phi-3-mini`.
        aliases: Other names that scripts may use, such as `gpt-4o-mini-2024-07-18`.
        model: `spec.model` of its FineTuneJobs: where the weights are.
        artifact: URI of an exported artifact that serves the base itself; empty where it can only be fine-tuned.
        method: How it is fine-tuned.
        job: Fields of `spec` that all of its jobs get, such as `resources` and `training`.
        workspace: Fields of `spec` that all of its servers get, such as `resources` and `runtime`.
        context_length: Tokens of prompt and answer together.
        price: US dollars for a million tokens: `training`, `input`, `output`; for usage reports only.
        created: Unix seconds that `/v1/models` shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    aliases: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], ...] = ()
    model: dict[str, Any]
    artifact: str = ""
    method: Method = "lora"
    job: dict[str, Any] = {}
    workspace: dict[str, Any] = {}
    context_length: Annotated[int, Field(gt=0)] = 2048
    price: dict[Literal["training", "input", "output"], float] = {}
    created: int = 0

    @property
    def gpus(self) -> int:
        """GPUs that one of its jobs trains on."""
        resources = self.job.get("resources", {})
        return int(resources.get("nodes", 1)) * int(resources.get("gpusPerNode", 0))


def check_names(bases: Sequence[BaseModelSettings]) -> None:
    """Raise ValueError if two bases have a name in common."""
    counts = Counter(name for base in bases for name in {base.name, *base.aliases})
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"{', '.join(twice)} names several base models; give each a name and aliases of its own")
