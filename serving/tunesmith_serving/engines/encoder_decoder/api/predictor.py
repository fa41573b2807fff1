"""Translation in Hugging Face's task API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith_serving.engines.encoder_decoder.batching.types import SourceRequest, SourceTooLongError
from tunesmith_serving.engines.encoder_decoder.text.source import LanguageError, SourceTokenizer
from tunesmith_serving.engines.predictor import InvalidInputError, ModelCard
from tunesmith_serving.engines.text_generation.batching.types import Batcher, GenerationRequest
from tunesmith_serving.engines.text_generation.task_api.parameters import SamplingParameters, parse
from tunesmith_serving.engines.text_generation.task_api.predictor import (
    Collected,
    GenerationPredictor,
    TimerOf,
    text_of,
)
from tunesmith_serving.runtime.retry import RetryEstimator

# What transformers' clean_up_tokenization replaces, in its order.
_CLEAN_UP = {
    " .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'", " n't": "n't", " 'm": "'m", " 's": "'s", " 've": "'ve",
    " 're": "'re",
}  # fmt: skip


class TranslationParameters(SamplingParameters):
    """Parameters of translation.

    Attributes:
        src_lang: The code of the source's language, for models that know several.
        tgt_lang: That of the translation's language.
        truncation: Whether a source that is too long is cut off; it is refused otherwise.
        clean_up_tokenization_spaces: Whether spaces before punctuation are removed.
    """

    src_lang: str | None = None
    tgt_lang: str | None = None
    truncation: bool | Literal["do_not_truncate", "longest_first", "only_first"] | None = None
    clean_up_tokenization_spaces: bool | None = None


class TranslationPredictor(GenerationPredictor):
    """Translates texts."""

    def __init__(
        self,
        batcher: Batcher,
        card: ModelCard,
        tokenizer: SourceTokenizer,
        retry: RetryEstimator | None = None,
        timer: TimerOf | None = None,
    ) -> None:
        super().__init__(batcher, card, retry, timer)
        self._tokenizer = tokenizer

    def request(self, value: Any, parameters: Mapping[str, Any], index: int = 0) -> GenerationRequest:  # noqa: ANN401
        """Return the request for a text.

        Raises:
            InvalidInputError: The text or a parameter is wrong.
        """
        return source_request(self._tokenizer, self.card.max_length, value, parameters, index)

    def answer(self, value: Any, parameters: Mapping[str, Any], found: Collected) -> Any:  # noqa: ANN401 - JSON
        """Return `[{"translation_text"}]`."""
        text = found.text
        if _parse(parameters).clean_up_tokenization_spaces:
            for spaced, joined in _CLEAN_UP.items():
                text = text.replace(spaced, joined)
        return [{"translation_text": text}]


def source_request(
    tokenizer: SourceTokenizer,
    max_length: int,
    value: Any,  # noqa: ANN401 - JSON
    parameters: Mapping[str, Any],
    index: int = 0,
) -> SourceRequest:
    """Return the request for a text.

    Args:
        tokenizer: The model's tokenizer.
        max_length: The most tokens of a source, to which it is truncated if a parameter says so.
        value: The input.
        parameters: The parameters.
        index: The input's place among several.

    Raises:
        InvalidInputError: The text or a parameter is wrong.
    """
    given = _parse(parameters)
    text = text_of(value, index)
    try:
        ids = tokenizer.source(text, given.src_lang)
        first = tokenizer.first_token(given.tgt_lang)
    except LanguageError as error:
        raise InvalidInputError(str(error), "parameters", error.parameter) from None
    except ValueError as error:
        raise InvalidInputError(str(error), "inputs", index) from None
    if len(ids) > max_length:
        if given.truncation in (None, False, "do_not_truncate"):
            raise InvalidInputError(str(SourceTooLongError(len(ids), max_length, index)), "inputs", index)
        ids = [*ids[: max_length - 1], ids[-1]]  # the end of the sentence stays
    return SourceRequest(tuple(ids), given.sampling(None), forced_bos=first)


def _parse(parameters: Mapping[str, Any]) -> TranslationParameters:
    """Check parameters; `generate_parameters` holds further ones, as `InferenceClient.translation` sends them."""
    outer = dict(parameters)
    inner = outer.pop("generate_parameters", None) or {}
    if not isinstance(inner, dict):
        raise InvalidInputError("must be an object of parameters", "parameters", "generate_parameters")
    return parse(TranslationParameters, {**inner, **outer})
