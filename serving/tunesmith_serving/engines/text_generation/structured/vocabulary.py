"""The model's vocabulary as llguidance knows it: the bytes of each token, and which tokens are special."""

from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper

from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer


class _Encoder:
    """What `TokenizerWrapper` wants of a tokenizer whose definition llguidance cannot read itself."""

    def __init__(self, tokenizer: Tokenizer, size: int, stop_token_ids: list[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = stop_token_ids[0] if stop_token_ids else None
        self.bos_token_id = None
        self.tokens = [tokenizer.token_bytes(token) for token in range(size)]
        self.special_token_ids = sorted(tokenizer.special_ids())

    def __call__(self, text: bytes) -> list[int]:
        """Return the token ids of a text; none if the vocabulary cannot write it."""
        ids = self._tokenizer.encode(text.decode(errors="ignore"), add_special_tokens=False)
        return ids if b"".join(self.tokens[token] for token in ids) == text else []


def make_vocabulary(tokenizer: Tokenizer, vocab_size: int, stop_token_ids: frozenset[int]) -> Any:  # noqa: ANN401
    """Return the LLTokenizer of a model.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Number of logits, which may be more than the tokenizer has tokens.
        stop_token_ids: The tokens that end an answer.
    """
    size = max(vocab_size, tokenizer.vocab_size)
    stop = sorted(token for token in stop_token_ids if token < size)
    try:
        # The library then also knows how a text is split into tokens, and writes what is certain as training did.
        return LLTokenizer(tokenizer.definition(), n_vocab=size, eos_token=stop or None)
    except BaseException as error:
        # It reads byte-level and byte-fallback tokenizers without gaps in their ids; a panic of Rust is no Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return LLTokenizer(TokenizerWrapper(_Encoder(tokenizer, size, stop)), n_vocab=size, eos_token=stop or None)
