"""What training minimises: the loss of the rows' own answers, or that of telling a better answer from a worse one."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel

Objective = Literal["supervised", "dpo"]

DpoLoss = Literal["sigmoid", "robust", "ipo", "sigmoidNorm"]

ROBUST_SMOOTHING = 0.1
"""`labelSmoothing` of the robust loss where the spec names none; the value of its paper (arXiv 2403.00409)."""


class DpoSpec(SpecModel):
    """Direct preference optimisation."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.labelSmoothing) || (has(self.lossType) && self.lossType == 'robust')",
            "labelSmoothing belongs to the robust loss; write lossType: robust, or remove labelSmoothing",
            lambda d: d.label_smoothing is None or d.loss_type == "robust",
        ),
    )

    beta: float = Field(
        default=0.1,
        gt=0,
        le=1000,
        description="How strongly the model is held to the one that it begins as: a higher value keeps it closer. With "
        "ipo the tau of its paper; with sigmoidNorm, whose differences are per token, values of 1 to 10 are usual.",
    )
    loss_type: DpoLoss = Field(
        default="sigmoid",
        description="sigmoid (DPO), robust (DPO where some pairs are the wrong way round), ipo (a squared loss, which "
        "does not push certain pairs ever further apart), or sigmoidNorm (DPO with differences per token, so that "
        "longer answers do not win by their length). As in trl.",
    )
    label_smoothing: float | None = Field(
        default=None,
        ge=0,
        lt=0.5,
        description="Share of the pairs that are the wrong way round; with lossType robust only, where it is "
        f"{ROBUST_SMOOTHING} by default.",
        examples=[ROBUST_SMOOTHING],
    )

    @property
    def smoothing(self) -> float:
        """The share of pairs that are taken to be the wrong way round; 0 with the other losses."""
        if self.loss_type != "robust":
            return 0.0
        return ROBUST_SMOOTHING if self.label_smoothing is None else self.label_smoothing
