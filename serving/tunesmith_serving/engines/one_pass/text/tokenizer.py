"""The artifact's tokenizer, as transformers' fast tokenizers use it in training."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, Literal

from tokenizers import Tokenizer

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.predictor import InvalidInputError
from tunesmith_serving.runtime.errors import ArtifactError

Strategy = Literal["longest_first", "only_first", "only_second"]
Direction = Literal["left", "right"]


class TextTokenizer:
    """The `tokenizers` library over one tokenizer.json.

    Attributes:
        added: Number of special tokens that one text gets.
        added_to_pair: Number of special tokens that two texts get.
        subword_prefix: What tokens within a word begin with, in vocabularies that have such a prefix.
        unknown: The token of what is not in the vocabulary, if there is one.
    """

    def __init__(self, artifact: Artifact) -> None:
        """Load from an artifact.

        Raises:
            ArtifactError: The tokenizer cannot be loaded.
        """
        definition = artifact.read_text("tokenizer.json") or ""
        config = artifact.read_json("tokenizer_config.json")
        try:
            self._tokenizer: Any = Tokenizer.from_str(definition)
            model = json.loads(definition).get("model") or {}
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"tokenizer.json cannot be loaded: {error}; export the model again") from None
        # A tokenizer.json may hold the truncation and padding of training.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._truncation: tuple[Any, ...] | None = None
        self._lock = threading.Lock()
        self.added: int = self._tokenizer.num_special_tokens_to_add(False)
        self.added_to_pair: int = self._tokenizer.num_special_tokens_to_add(True)
        self.subword_prefix = str(model.get("continuing_subword_prefix") or "")
        self.unknown = self._named(config, "unk_token")

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        length: int | None = None,
        stride: int = 0,
        strategy: Strategy = "longest_first",
        direction: Direction = "right",
    ) -> Any:  # noqa: ANN401 - tokenizers carries no types
        """Return the encoding of a text or of two, special tokens included.

        Args:
            text: The text; special tokens in it are recognised.
            pair: A second text.
            length: The most tokens; what is cut off is in the encoding's `overflowing`.
            stride: Tokens that consecutive parts of a text that is cut share.
            strategy: The text that is cut.
            direction: The end at which it is cut.

        Raises:
            InvalidInputError: A text holds half a character, or nothing of it fits.
        """
        for given in (text, pair or ""):
            try:
                given.encode()
            except UnicodeEncodeError:
                raise InvalidInputError("holds a lone surrogate (half a character); send whole characters") from None
        wanted = None if length is None else (length, stride, strategy, direction)
        with self._lock:
            try:
                self._set(wanted)
                return self._tokenizer.encode(text, pair)
            except Exception as error:  # tokenizers raises bare Exception
                raise InvalidInputError(f"cannot be cut to {length} tokens: {error}") from None

    def words(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens as the vocabulary spells them."""
        decoder = self._tokenizer.decoder
        text: str = decoder.decode(list(tokens)) if decoder is not None else " ".join(tokens)
        return text

    def _set(self, wanted: tuple[Any, ...] | None) -> None:
        if wanted == self._truncation:
            return
        self._truncation = None
        self._tokenizer.no_truncation()
        if wanted is None:
            return
        length, stride, strategy, direction = wanted
        self._tokenizer.enable_truncation(length, stride=stride, strategy=strategy, direction=direction)
        self._truncation = wanted

    def _named(self, config: dict[str, Any], key: str) -> int | None:
        given = config.get(key)
        name = given.get("content") if isinstance(given, dict) else given
        index: int | None = self._tokenizer.token_to_id(name) if isinstance(name, str) else None
        return index
