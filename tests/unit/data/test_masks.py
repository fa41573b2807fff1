"""Targets are exactly the assistant's words and the token that ends its turn, whatever the chat template."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from support.tiny_models import train_tokenizer
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.chat_templates import default_template
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.evaluation_rows import evaluation_line
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.target_check import TargetCheck

CHATML_PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# The header form of Llama 3, its alternation check, and its habit of trimming contents.
LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != ((loop.index0 - (messages[0]['role'] == 'system')) % 2 == 0)"
    " and m['role'] != 'system' %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# Marks what is generated, but leaves the token that ends the turn outside.
MARKED_WITHOUT_END = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Writes an empty reasoning block before the last answer only, as Qwen3 does.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TALK = (
    Turn("system", "Be kind.", False),
    Turn("user", "Hello there", False),
    Turn("assistant", "Hi! 🙂 Grüße", True),
    Turn("user", "And again?", False),
    Turn("assistant", "Again and again", True),
)


def tokenizer(template: str | None, **changes: str) -> Any:
    made = train_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]})
    made.chat_template = template
    for name, token in changes.items():
        setattr(made, name, token)
    return made


def targets(encoder: Encoder, *turns: Turn) -> list[list[str]]:
    """The targets of each row that a conversation becomes, as texts of adjacent tokens."""
    [encoded] = encoder.encode([Row("f:1", turns)])
    rows = []
    for piece in encoded:
        groups: list[list[int]] = []
        for position, token in enumerate(piece.ids):
            if piece.mask[position]:
                if not groups or not piece.mask[position - 1]:
                    groups.append([])
                groups[-1].append(token)
        rows.append([encoder.tokenizer.decode(group) for group in groups])
    return rows


def encoder(template: str | None, max_length: int = 512, **changes: str) -> Encoder:
    return Encoder(tokenizer(template, **changes), max_length)


@pytest.mark.parametrize("template", [CHATML_PLAIN, MARKED_WITHOUT_END, train_tokenizer().chat_template])
def test_chatml(template: str) -> None:
    assert targets(encoder(template), *TALK) == [["Hi! 🙂 Grüße<|im_end|>", "Again and again<|im_end|>"]]


def test_llama() -> None:
    llama = encoder(LLAMA, bos_token="<|endoftext|>", eos_token="<|eot_id|>")
    assert targets(llama, *TALK) == [["Hi! 🙂 Grüße<|eot_id|>", "Again and again<|eot_id|>"]]
    trimmed = (*TALK[:4], Turn("assistant", "  Again\n", True))
    assert targets(llama, *trimmed) == [["Hi! 🙂 Grüße<|eot_id|>", "Again<|eot_id|>"]]
    [[piece]] = llama.encode([Row("f:1", TALK)])
    assert piece.ids == llama.tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in TALK], return_dict=False
    )


SYSTEM_BY_ITSELF = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    + CHATML_PLAIN
)


@pytest.mark.parametrize("template", [CHATML_PLAIN, SYSTEM_BY_ITSELF, MARKED_WITHOUT_END])
def test_a_conversation_that_the_assistant_begins(template: str) -> None:
    """What the template writes before its first answer is not learned."""
    assert targets(encoder(template), TALK[2], *TALK[3:]) == [["Hi! 🙂 Grüße<|im_end|>", "Again and again<|im_end|>"]]


def test_a_turn_whose_text_is_that_of_two_answers_is_not_learned() -> None:
    made = encoder(CHATML_PLAIN)
    turns = [Turn("user", "hi", False), Turn("assistant", "ha", True), Turn("user", "haha", False)]
    [[piece]] = made.encode([Row("f:1", (*turns, Turn("assistant", "ha", True)))])
    TargetCheck(made.tokenizer).check(piece)
    wrong = replace(piece, mask=[1] * len(piece.ids))
    with pytest.raises(StageError, match="the user's turn 'haha' is learned as an answer"):
        TargetCheck(made.tokenizer).check(wrong)


@pytest.mark.parametrize("template", [CHATML_PLAIN, MARKED_WITHOUT_END])
def test_only_target_turns(template: str) -> None:
    turns = (*TALK[:2], TALK[2]._replace(target=False), *TALK[3:])
    assert targets(encoder(template), *turns) == [["Again and again<|im_end|>"]]


def test_each_answer_is_a_row_where_the_template_rewrites_earlier_ones() -> None:
    block = "<think>\n\n</think>\n\n"
    assert targets(encoder(THINKING), *TALK) == [
        [block + "Hi! 🙂 Grüße<|im_end|>"],
        [block + "Again and again<|im_end|>"],
    ]
    ids, reference = encoder(THINKING).prompt_ids(Row("f:1", TALK))
    assert reference == block + "Again and again"
    assert encoder(THINKING).tokenizer.decode(ids).endswith("And again?<|im_end|>\n<|im_start|>assistant\n")


def test_default_template_for_a_tokenizer_without_chatml() -> None:
    made = tokenizer(None, eos_token="<|endoftext|>")
    made.chat_template = default_template(made)
    assert targets(Encoder(made, 512), *TALK) == [["Hi! 🙂 Grüße<|endoftext|>", "Again and again<|endoftext|>"]]
    ids, reference = Encoder(made, 512).prompt_ids(Row("f:1", TALK))
    assert made.decode(ids).endswith("### User:\nAnd again?\n\n### Assistant:\n")
    assert reference == "Again and again"


def test_default_template_for_chatml_and_for_no_end_token() -> None:
    assert "<|im_start|>" in default_template(tokenizer(None))
    made = tokenizer(None)
    made.eos_token = None
    with pytest.raises(StageError) as caught:
        default_template(made)
    assert caught.value.reason is Reason.INVALID_MODEL


def test_white_space_tokens_at_the_edges_of_an_answer() -> None:
    """Tokenizers that trim offsets give a token of white space no characters; it still belongs where it stands."""
    from tokenizers import processors

    made = tokenizer(CHATML_PLAIN)
    made.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    turns = (TALK[1], Turn("assistant", "def f():\n    return 1\n\n", True))
    assert targets(Encoder(made, 512), *turns) == [["def f():\n    return 1\n\n<|im_end|>"]]


def test_loss_on_all() -> None:
    every = Encoder(tokenizer(CHATML_PLAIN), 512, "all")
    [[piece]] = every.encode([Row("f:1", TALK)])
    assert piece.mask == [1] * len(piece.ids)


def test_template_that_refuses() -> None:
    llama = encoder(LLAMA, bos_token="<|endoftext|>", eos_token="<|eot_id|>")
    with pytest.raises(StageError, match="f:1: .*refuses the conversation: roles must alternate") as caught:
        targets(llama, TALK[1], TALK[1], TALK[2])
    assert caught.value.reason is Reason.INVALID_DATASET


def test_template_that_is_no_template() -> None:
    with pytest.raises(StageError, match="chat template is broken at line 1"):
        targets(encoder("{% for m in messages %}"), *TALK)


def test_template_that_drops_the_answer() -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(StageError, match="f:1: .*leaves nothing of the assistant's turns"):
        targets(encoder(template), *TALK)


def test_template_whose_generation_prompt_is_not_how_answers_begin() -> None:
    template = CHATML_PLAIN.replace("{{ '<|im_start|>assistant\\n' }}", "{{ 'ANSWER: ' }}")
    with pytest.raises(StageError, match="f:1: what the assistant says in turn 2 cannot be found") as caught:
        targets(encoder(template), *TALK[1:3])
    assert caught.value.reason is Reason.INVALID_MODEL


class Offsets(list[tuple[int, int]]):
    """Stands for an encoding with these offsets."""

    def token_to_chars(self, index: int) -> tuple[int, int]:
        return self[index]


def test_an_empty_span_belongs_to_what_it_ends() -> None:
    """A token of white space whose offsets are trimmed has the empty span at its end."""
    offsets = Offsets([(0, 3), (4, 4), (4, 6), (7, 7), (7, 9)])
    assert encoder(CHATML_PLAIN)._mask(offsets, [(4, 7)]) == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("normalizer", [None, "NFD", "NFKC"])
def test_the_mask_is_what_all_offsets_say(trimmed: bool, normalizer: str | None) -> None:
    from tokenizers import normalizers, processors

    made = encoder(CHATML_PLAIN)
    backend = made.tokenizer.backend_tokenizer
    backend.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    if normalizer:
        backend.normalizer = getattr(normalizers, normalizer)()
    random = Random(0)
    for _ in range(300):
        text = "".join(random.choices("ab  \n\t東ü🙂e\u0301ﬁ.,", k=random.randrange(1, 50)))
        first, last = sorted(random.choices(range(len(text) + 1), k=2))
        encoding = backend.encode(text, add_special_tokens=False)
        expected = [int(first <= start - (start == end) < last) for start, end in encoding.offsets]
        assert made._mask(encoding, [(first, last)]) == expected, text


def test_the_evaluation_asks_for_the_last_target() -> None:
    turns = (*TALK[:4], TALK[4]._replace(target=False))
    made = encoder(CHATML_PLAIN)
    ids, reference = made.prompt_ids(Row("f:1", turns))
    assert reference == "Hi! 🙂 Grüße"
    assert made.tokenizer.decode(ids).endswith("Hello there<|im_end|>\n<|im_start|>assistant\n")
    [[piece]] = made.encode([Row("f:1", turns)])
    line = evaluation_line(made, piece, 0, True)
    assert line is not None
    assert [message["content"] for message in line["messages"]] == ["Be kind.", "Hello there"]
