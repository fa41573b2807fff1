"""The requests of this engine, and the error of one that is too long."""

from dataclasses import dataclass

from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, PromptTooLongError


@dataclass(frozen=True, slots=True)
class SourceRequest(GenerationRequest):
    """Token ids of a source and how to translate them.

    Attributes:
        forced_bos: The first token of the answer, if it is another one than the model's own.
    """

    forced_bos: int | None = None


class SourceTooLongError(PromptTooLongError):
    """The source has more tokens than the model takes."""

    def __init__(self, tokens: int, most: int, index: int) -> None:
        super().__init__(tokens, most)
        self.args = (f"the text has {tokens} tokens and this model takes at most {most}; send shorter parts of it",)
        self.index = index
