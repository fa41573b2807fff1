"""Compiling grammars for one model: off the event loop, within limits, and each once."""

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llguidance import LLMatcher

from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.structured.constraint import CompiledGrammar
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError, literal
from tunesmith_serving.engines.text_generation.structured.masks import MaskThread
from tunesmith_serving.engines.text_generation.structured.reading import LIMITS, error_of, read
from tunesmith_serving.engines.text_generation.structured.vocabulary import make_vocabulary
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

CACHED_GRAMMARS = 128
COMPILING_THREADS = 2
COMPILE_SECONDS = 20.0
"""The longest that a request waits for its grammar; limits end nearly every compilation far earlier."""


class GrammarCompiler:
    """Compiles grammars for one model and keeps those that were used last.

    Attributes:
        vocab_size: Number of logits.
        stop_token_ids: The tokens that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_token_ids: frozenset[int]) -> None:
        """Take the model's vocabulary, which is read when the first grammar is compiled.

        Args:
            tokenizer: The model's tokenizer.
            vocab_size: Number of logits.
            stop_token_ids: The tokens that end an answer.
        """
        self._tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.stop_token_ids = stop_token_ids
        self._masks = MaskThread()
        self._vocabulary: Any = None
        self._cache: OrderedDict[Grammar, CompiledGrammar] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        # Threads of their own, so that slow grammars hold up nothing else.
        self._threads = ThreadPoolExecutor(COMPILING_THREADS, "tunesmith-grammars")

    async def compile(self, grammar: Grammar) -> ConstraintSource:
        """Return a compiled grammar; the event loop is free meanwhile.

        Raises:
            GrammarError: The grammar is not valid, or too complex.
        """
        if (known := self._known(grammar)) is not None:
            return known
        try:
            async with asyncio.timeout(COMPILE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self.compile_now, grammar)
        except TimeoutError:
            raise GrammarError("the grammar is too complex; simplify it") from None

    def compile_now(self, grammar: Grammar) -> ConstraintSource:
        """Return a compiled grammar; this takes some milliseconds, or seconds for a large one.

        Raises:
            GrammarError: The grammar is not valid, or too complex.
        """
        if (known := self._known(grammar)) is not None:
            return known
        text = read(grammar)
        with self._reading:
            if self._vocabulary is None:
                self._vocabulary = make_vocabulary(self._tokenizer, self.vocab_size, self.stop_token_ids)
        try:
            compiled = self._compile(grammar, text)
        except GrammarError:
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            raise GrammarError(f"the grammar cannot be compiled: {error}") from None
        with self._lock:
            self._cache[grammar] = compiled
            while len(self._cache) > CACHED_GRAMMARS:
                self._cache.popitem(last=False)
        return compiled

    def token(self, text: str) -> str:
        """Return a text for a rule of a Lark grammar: as one token if it is a special token, else as a string."""
        index = self._tokenizer.token_id(text)
        return literal(text) if index is None or not self._tokenizer.is_added(index) else f"<[{index}]>"

    def _compile(self, grammar: Grammar, text: str) -> CompiledGrammar:
        matcher = LLMatcher(self._vocabulary, text, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise error_of(grammar, matcher.get_error())
        compiled = CompiledGrammar(matcher, self._masks, self.vocab_size)
        if compiled.error:
            raise error_of(grammar, matcher.get_error() or "NoExtension")
        return compiled

    def _known(self, grammar: Grammar) -> CompiledGrammar | None:
        with self._lock:
            if (found := self._cache.get(grammar)) is not None:
                self._cache.move_to_end(grammar)
            return found
