"""A folded system turn stands in front of the first user turn, in training and in the server alike."""

from typing import Any

import pytest

from support.tiny_models import train_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_serving.engines.text_generation.text.template import ChatTemplate
from tunesmith_trainer.data.chat_templates import with_folded_system_turn
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.rows import Row, Turn

# Refuses a system turn and wants users and assistants in turn, as Mistral's and Gemma's templates do.
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TALK = (
    Turn("system", "Be kind.", False),
    Turn("user", "Hello", False),
    Turn("assistant", "Hi", True),
    Turn("user", "Again?", False),
    Turn("assistant", "Again", True),
)


def tokenizer(template: str) -> Any:
    made = train_tokenizer()
    made.bos_token = "<|endoftext|>"
    made.chat_template = template
    return made


def test_a_template_that_takes_no_system_turn_takes_it_folded() -> None:
    with pytest.raises(StageError) as caught:
        list(Encoder(tokenizer(NO_SYSTEM), 512).encode([Row("f:1", TALK)]))
    assert "spec.dataset.systemTurn: fold" in caught.value.remedy
    folded = tokenizer(with_folded_system_turn(NO_SYSTEM))
    [[piece]] = Encoder(folded, 512).encode([Row("f:1", TALK)])
    text = folded.decode(piece.ids)
    assert text == ("<|endoftext|>[INST] Be kind.\n\nHello [/INST] Hi<|im_end|>[INST] Again? [/INST] Again<|im_end|>")
    targets = [id_ for id_, mask in zip(piece.ids, piece.mask, strict=True) if mask]
    assert folded.decode(targets) == " Hi<|im_end|> Again<|im_end|>"


def test_the_server_renders_a_request_as_training_did() -> None:
    folded = tokenizer(with_folded_system_turn(NO_SYSTEM))
    ids, _ = Encoder(folded, 512).prompt_ids(Row("f:1", TALK))
    server = ChatTemplate(folded.chat_template, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
    messages = [{"role": turn.role, "content": turn.content} for turn in TALK[:-1]]
    assert server.render(messages) == folded.decode(ids)


@pytest.mark.parametrize("turns", [TALK[1:], TALK[1:3]])
def test_without_a_system_turn_nothing_changes(turns: tuple[Turn, ...]) -> None:
    plain, folded = (tokenizer(text) for text in (NO_SYSTEM, with_folded_system_turn(NO_SYSTEM)))
    rows = [list(Encoder(made, 512).encode([Row("f:1", turns)])) for made in (plain, folded)]
    assert rows[0] == rows[1]


def test_folding_twice_is_folding_once() -> None:
    once = with_folded_system_turn(NO_SYSTEM)
    assert with_folded_system_turn(once) == once != NO_SYSTEM
