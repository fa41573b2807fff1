"""Classes of tokens, and the entities that they make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tunesmith_serving.engines.one_pass.batching.rows import Outputs, Row
from tunesmith_serving.engines.one_pass.tasks.base import (
    OnePassTask,
    Prepared,
    TaskParameters,
    kind_of,
    row_of,
    softmax,
    text_in,
)
from tunesmith_serving.engines.one_pass.tasks.entities import EntityMaker, Token, without_overlaps
from tunesmith_serving.engines.one_pass.text.pieces import cut, first_tokens, framed
from tunesmith_serving.engines.predictor import InvalidInputError


class TokenParameters(TaskParameters):
    """Parameters of transformers' TokenClassificationPipeline.

    Attributes:
        aggregation_strategy: How tokens become entities; `none` answers with tokens.
        ignore_labels: Labels that are left out.
        stride: Tokens that the windows of a long text share. By default a long text is cut between words, as in
            training.
        truncation: Whether a long text is cut off instead.
    """

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    ignore_labels: list[str] = Field(default_factory=lambda: ["O"])
    stride: Annotated[int, Field(ge=0)] | None = None
    truncation: bool = False

    @model_validator(mode="after")
    def _check(self) -> TokenParameters:
        if self.stride is not None and self.aggregation_strategy == "none":
            raise ValueError("stride joins entities of windows; leave it out, or write another aggregation_strategy")
        return self


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens of the text in a row.

    Attributes:
        encoding: An encoding that holds them.
        positions: Their positions in the row.
        shift: What leads from a position in the row to that in the encoding.
    """

    encoding: Any
    positions: Sequence[int]
    shift: int = 0


class TokenClassification(OnePassTask):
    """The task."""

    per_token = True
    parameters = TokenParameters

    def prepare(self, value: Any, parameters: TokenParameters) -> Prepared:  # noqa: ANN401
        """Return the rows of a text, or of `{"tokens": [...]}`: words, which are joined by one space each."""
        text, words = _words(value)
        length = self.served.max_length
        if parameters.stride is not None:
            most = length - self.tokenizer.added - 1
            if parameters.stride > most:
                raise InvalidInputError(f"must be at most {most} for this model", "parameters", "stride")
            encoding = self.tokenizer.encode(text, length=length, stride=parameters.stride)
            return _whole(text, [encoding, *encoding.overflowing])
        encoding = self.tokenizer.encode(text, length=length if parameters.truncation else None)
        if len(encoding.ids) <= length:
            return _whole(text, [encoding])
        return _pieces(text, words, encoding, length)

    def answer(
        self, prepared: Prepared, outputs: Sequence[Outputs], parameters: TokenParameters
    ) -> list[dict[str, Any]]:
        """Return the entities, or the tokens with aggregation_strategy none."""
        maker = EntityMaker(self.tokenizer, self.served.labels, parameters.aggregation_strategy)
        ignored = set(parameters.ignore_labels)
        tokens = [_tokens(*found) for found in zip(prepared.parts, prepared.rows, outputs, strict=True)]
        if parameters.stride is None or len(tokens) == 1:
            return maker.entities(prepared.text, [token for part in tokens for token in part], ignored)
        return without_overlaps([one for part in tokens for one in maker.entities(prepared.text, part, ignored)])


def _tokens(part: Part, row: Row, output: Outputs) -> list[Token]:
    """Return the tokens of the text in a row, with the probabilities of their labels."""
    scores = softmax(output["logits"])
    spelled, offsets = part.encoding.tokens, part.encoding.offsets  # each call copies them
    found = []
    for position in part.positions:
        index = position + part.shift
        start, end = offsets[index]
        found.append(Token(index, row.ids[position], spelled[index], start, end, scores[position]))
    return found


def _whole(text: str, encodings: Sequence[Any]) -> Prepared:
    """Return the rows of encodings as they are."""
    if not encodings[0].ids:
        raise InvalidInputError("has no tokens; write a text")
    parts = [
        Part(one, [index for index, special in enumerate(one.special_tokens_mask) if not special]) for one in encodings
    ]
    return Prepared([row_of(one) for one in encodings], text, parts)


def _pieces(text: str, words: Sequence[str] | None, encoding: Any, length: int) -> Prepared:  # noqa: ANN401
    """Return the rows of a text that is cut between words."""
    first, last = framed(encoding)
    ids, offsets = encoding.ids[first:last], encoding.offsets[first:last]
    before, after = encoding.ids[:first], encoding.ids[last:]
    room = length - len(before) - len(after)
    if words is not None:
        pieces, _ = cut(len(ids), first_tokens(words, offsets), room)
    else:
        # Not between the tokens of one character.
        characters = [index for index in range(len(ids)) if index == 0 or offsets[index][0] >= offsets[index - 1][1]]
        numbers = encoding.word_ids[first:last]
        between = [index for index in characters if index == 0 or numbers[index] != numbers[index - 1]]
        pieces, lost = cut(len(ids), between, room)
        if lost:  # a word of hundreds of tokens, as in texts without spaces
            pieces, _ = cut(len(ids), characters, room)
    rows = [[*before, *ids[start:end], *after] for start, end in pieces]
    parts = [Part(encoding, range(first, first + end - start), start) for start, end in pieces]
    return Prepared([Row(row, [0] * len(row)) for row in rows], text, parts)


def _words(value: object) -> tuple[str, list[str] | None]:
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict) or set(value) != {"tokens"}:
        raise InvalidInputError(f'must be a string or {{"tokens": [...]}}, not {kind_of(value)}')
    words = value["tokens"]
    if not isinstance(words, list):
        raise InvalidInputError(f"must be a list of words, not {kind_of(words)}", "tokens")
    checked = [text_in(word, "tokens", index) for index, word in enumerate(words)]
    return " ".join(checked), checked
