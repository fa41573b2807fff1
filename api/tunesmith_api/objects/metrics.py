"""The metrics of a job in its status."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.objects.metadata import StatusModel


class Evaluation(StatusModel):
    """Metrics on the validation rows."""

    eval_loss: Annotated[float | None, Field(description="Mean loss of a learned token.")] = None
    perplexity: Annotated[float | None, Field(description="Exponential of the loss.")] = None
    token_accuracy: Annotated[float | None, Field(description="Share of learned tokens that are predicted.")] = None
    exact_match: Annotated[float | None, Field(description="Share of answers that are equal to the expected.")] = None
    rouge_l: Annotated[float | None, Field(description="ROUGE-L of answers, 0 to 1.")] = None
    reward_accuracy: Annotated[float | None, Field(description="Share of pairs whose better answer wins.")] = None
    reward_margin: Annotated[float | None, Field(description="By how much it wins on average, in nats by beta.")] = None
    accuracy: Annotated[float | None, Field(description="Share of rows, or of words, whose label is right.")] = None
    macro_f1: Annotated[float | None, Field(description="Mean of the F1 of the classes.")] = None
    mse: Annotated[float | None, Field(description="Mean squared error of numbers.")] = None
    spearman: Annotated[float | None, Field(description="Spearman's rank correlation of numbers.")] = None
    f1: Annotated[float | None, Field(description="F1 of entities, or of the words of answers.")] = None
    precision: Annotated[float | None, Field(description="Share of the entities found that are right.")] = None
    recall: Annotated[float | None, Field(description="Share of the entities that were found.")] = None
    bleu: Annotated[float | None, Field(description="BLEU of translations, 0 to 100.")] = None
    chrf: Annotated[float | None, Field(description="chrF of translations or answers, 0 to 100.")] = None


class Metrics(StatusModel):
    """Metrics before and after training."""

    before: Annotated[Evaluation | None, Field(description="Metrics of the base model.")] = None
    after: Annotated[Evaluation | None, Field(description="Metrics of the tuned model.")] = None
    served: Annotated[
        dict[str, Evaluation] | None, Field(description="Metrics of each exported model as it is served, by precision.")
    ] = None
