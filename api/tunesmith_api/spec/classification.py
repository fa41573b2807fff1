"""Settings of the task sequenceClassification."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel

ProblemType = Literal["auto", "singleLabelClassification", "multiLabelClassification", "regression"]


class ClassificationSpec(SpecModel):
    """What the labels of the task sequenceClassification are, and what each class weighs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.classWeights) || self.classWeights == 'none' || !has(self.problemType) || "
            "self.problemType in ['auto', 'singleLabelClassification']",
            "classWeights: balanced needs one class a row; remove classWeights, or write problemType: "
            "singleLabelClassification",
            lambda c: c.class_weights == "none" or c.problem_type in ("auto", "singleLabelClassification"),
        ),
    )

    problem_type: ProblemType = Field(
        default="auto",
        description="What transformers calls problem_type. auto takes it from the labels: lists are several labels "
        "(multiLabelClassification); numbers of which one has a fraction are to be predicted (regression); names, "
        "whole numbers and booleans are classes (singleLabelClassification). Write regression for ratings that are all "
        "whole numbers.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced weighs each class in the loss by rows / (classes * rows of the class), as scikit-learn's "
        "class_weight does; for singleLabelClassification.",
    )
