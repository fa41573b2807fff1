"""The token ids of a source: prefix, text, end of sentence, and the code of its language where the model has such."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Tokenizer as HfTokenizer

from tunesmith_serving.engines.encoder_decoder.model.settings import TaskSettings
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

# Of NLLB (eng_Latn) and mBART (en_XX); of M2M100 (__en__).
_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}|__[a-z]{2,3}__")


class LanguageError(ValueError):
    """A language that this model does not read or write.

    Attributes:
        parameter: The parameter of the request.
    """

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class SourceTokenizer(Tokenizer):
    """A tokenizer for sources and answers: `encode` gives what the model reads, special tokens included."""

    def __init__(self, definition: str, settings: TaskSettings, start: int | None = None) -> None:
        """Load from the text of a tokenizer.json.

        Args:
            definition: Its text.
            settings: Prefix and languages.
            start: The token that answers begin after; with mBART that is the code of their language.

        Raises:
            ArtifactError: It is not one.
        """
        super().__init__(definition)
        hf: HfTokenizer = self._tokenizer
        added = hf.get_added_tokens_decoder()
        self.codes: dict[str, int] = {
            token.content: number for number, token in added.items() if token.special and _CODE.fullmatch(token.content)
        }
        self._code_ids = frozenset(self.codes.values())
        self._marks_language = bool(self._code_ids.intersection(hf.encode("", add_special_tokens=True).ids))
        self._settings = settings
        self._one_target = start in self._code_ids

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a text in the model's own source language; special tokens are always added.

        Raises:
            ValueError: The text holds lone surrogates, which no tokenizer can encode.
        """
        return self.source(text)

    def source(self, text: str, language: str | None = None) -> list[int]:
        """Return the token ids that the model reads.

        Args:
            text: The text.
            language: The code of its language; None for the one that the model was trained with.

        Raises:
            LanguageError: The model does not know the language.
            ValueError: The text holds lone surrogates, which no tokenizer can encode.
        """
        code = self.code(language, self._settings.source_language, "src_lang")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds a lone surrogate (half a character); send whole characters") from None
        found: Any = self._tokenizer.encode(self._settings.prefix + text, add_special_tokens=True)
        ids: list[int] = found.ids
        if code is None or not self._marks_language:
            return ids
        special = found.special_tokens_mask
        return [code if mark and token in self._code_ids else token for token, mark in zip(ids, special, strict=True)]

    def first_token(self, language: str | None) -> int | None:
        """Return the token that an answer in this language begins with; None for the model's own.

        Raises:
            LanguageError: The model does not write the language.
        """
        own = self._settings.target_language
        if language is None:
            return None
        if self._one_target and language != own:
            raise LanguageError(f"this model translates into {own} only; leave it out", "tgt_lang")
        return None if self._one_target else self.code(language, own, "tgt_lang")

    def code(self, language: str | None, own: str | None, parameter: str) -> int | None:
        """Return the token of a language's code, or None if texts are not marked with one.

        Raises:
            LanguageError: The model does not know the language.
        """
        if language is None or (language == own and language not in self.codes):
            return self.codes.get(own) if own is not None else None
        if not self._marks_language:
            pair = f" (it translates from {self._settings.source_language} to {self._settings.target_language})"
            known = pair if self._settings.source_language and self._settings.target_language else ""
            raise LanguageError(f"this model translates between two fixed languages{known}; leave it out", parameter)
        if language not in self.codes:
            examples = ", ".join(sorted(self.codes)[:3])
            raise LanguageError(f"this model has no language {language!r}; it has codes such as {examples}", parameter)
        return self.codes[language]
