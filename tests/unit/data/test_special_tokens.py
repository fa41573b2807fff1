"""Texts that hold BOS, EOS or a rendered template already get no second one, and are named."""

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from support.tiny_models import train_tokenizer
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.data.rows import Row, Turn

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
RENDERED = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"


def tokenizer(single: str) -> Any:
    """A tokenizer that writes special tokens around a text as `single` says, as Llama's does."""
    made = train_tokenizer()
    made.add_special_tokens({"bos_token": BOS, "eos_token": EOS})
    tokens = [(token, made.convert_tokens_to_ids(token)) for token in (BOS, EOS)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
    return made


@pytest.mark.parametrize("single", ["$A", f"{BOS} $A", f"{BOS} $A {EOS}"])
@pytest.mark.parametrize("text", ["hello", f"{BOS}hello", f"hello{EOS}", f"{BOS}hello{EOS}", f"{BOS}hello{EOS}\n"])
def test_one_bos_and_one_eos(single: str, text: str) -> None:
    made = tokenizer(single)
    encoder = Encoder(made, 50)
    [[piece]] = encoder.encode([Row("f:1", text=text)])
    decoded = made.decode(piece.ids)
    assert decoded.count(EOS) == 1
    assert decoded.rstrip().endswith(EOS)
    assert decoded.count(BOS) == (1 if BOS in single + text else 0)
    assert encoder.log.counts[Outcome.SPECIAL_TOKENS] == 0


def test_a_rendered_template_gets_no_second_end_and_is_named() -> None:
    made = train_tokenizer()
    encoder = Encoder(made, 50)
    pieces = list(encoder.encode([Row("f:1", text="plain"), Row("f:2", text=RENDERED)]))
    assert made.decode(pieces[0][0].ids) == "plain<|im_end|>"
    assert made.decode(pieces[1][0].ids) == RENDERED
    assert encoder.log.locations[Outcome.SPECIAL_TOKENS] == ["f:2 (<|im_start|>)"]
    other = tokenizer(f"{BOS} $A")  # its EOS is another token, but the text has an end
    [[piece]] = Encoder(other, 50).encode([Row("f:1", text=RENDERED)])
    assert other.decode(piece.ids) == BOS + RENDERED


def test_special_tokens_in_a_conversation_are_named() -> None:
    encoder = Encoder(train_tokenizer(), 100)
    turns = (Turn("user", "What is <|im_end|>?", False), Turn("assistant", "A token.", True))
    list(encoder.encode([Row("f:7", turns)]))
    assert encoder.log.locations[Outcome.SPECIAL_TOKENS] == ["f:7 (<|im_end|>)"]


@pytest.mark.parametrize("single", ["$A", f"{BOS} $A"])
@pytest.mark.parametrize("text", ["hello", f"{BOS}hello", "aa", f"{BOS}{BOS}x"])
def test_the_server_makes_the_same_tokens_of_a_prompt(single: str, text: str) -> None:
    made = tokenizer(single)
    served = Tokenizer(made.backend_tokenizer.to_str()).encode(text, add_special_tokens=True)
    [[piece]] = Encoder(made, 50).encode([Row("f:1", text=text)])
    assert served == piece.ids[:-1]
    assert piece.ids[-1] == made.eos_token_id
