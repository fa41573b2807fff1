"""Labels of tokens against straightforward implementations, with tokenizers of all families."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_tasks import ENCODERS, train_task_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.tasks.token_classification.encoder import TagEncoder, split
from tunesmith_trainer.tasks.token_classification.rows import Entity, SpansRow, TaggedRow

LABELS = ["O", "B-A", "I-A", "B-B", "I-B"]
IGNORED = -100

tokenizer_of = cache(train_task_tokenizer)
families = st.sampled_from(ENCODERS)
# Letters that tokenizers know, accents, scripts without spaces, emoji of several bytes, and what BERT removes.
words = st.text(st.sampled_from("aelnortz.,'-ÄïñK9東京мир🙂\u0301\u200b\x07"), min_size=1, max_size=12)


@st.composite
def tagged(draw: Any) -> TaggedRow:
    chosen = draw(st.lists(words, min_size=1, max_size=15))
    tags: list[str] = []
    for _ in chosen:
        allowed = ["O", "B-A", "B-B", *([f"I-{tags[-1][2:]}"] if tags and tags[-1] != "O" else [])]
        tags.append(draw(st.sampled_from(allowed)))
    return TaggedRow("f:1", words=tuple(chosen), tags=tuple(tags))


def encoded(tokenizer: Any, row: Any, most: int = 512) -> tuple[TagEncoder, list[Any]]:
    encoder = TagEncoder(tokenizer, most, LABELS)
    [pieces] = encoder.encode([row])
    return encoder, pieces


def straightforward(tokenizer: Any, row: TaggedRow) -> tuple[list[int], list[int], list[int]]:
    """Token ids without special ones, the label of each, and the word of each (-1 for none), character by character."""
    text, owner = "", []
    for index, word in enumerate(row.words):
        text += (" " if index else "") + word
        owner += ([-1] if index else []) + [index] * len(word)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    labels, of_word, seen = [], [], set()
    for start, end in encoding["offset_mapping"]:
        inside = [owner[place] for place in range(start, end) if owner[place] >= 0 and owner[place] not in seen]
        touched = [owner[place] for place in range(start, end) if owner[place] >= 0]
        of_word.append(touched[0] if touched else -1)
        if inside:
            seen.add(inside[0])
            labels.append(inside[0])
        else:
            labels.append(-1)
    numbers, entity = [], ""
    tags = list(row.tags)
    for index in range(len(tags)):  # an entity whose first words have no token begins with the next one
        if index not in seen:
            if tags[index].startswith("B-") or (entity and tags[index] == f"I-{entity}"):
                entity = tags[index][2:]
            continue
        if entity and tags[index] == f"I-{entity}":
            tags[index] = f"B-{entity}"
        entity = ""
    numbers = [IGNORED if word < 0 else LABELS.index(tags[word]) for word in labels]
    return encoding["input_ids"], numbers, of_word


@settings(max_examples=1500, deadline=None)
@given(families, tagged())
def test_first_token_of_each_word_has_its_label(family: Any, row: TaggedRow) -> None:
    tokenizer = tokenizer_of(family)
    ids, labels, _ = straightforward(tokenizer, row)
    if not ids:
        with pytest.raises(StageError, match="leaves nothing of the row"):
            encoded(tokenizer, row)
        return
    encoder, [piece] = encoded(tokenizer, row)
    begin = piece.ids.index(ids[0], 1)
    assert piece.ids[begin : begin + len(ids)] == ids
    assert list(piece.targets[begin : begin + len(ids)]) == labels
    around = [*piece.targets[:begin], *piece.targets[begin + len(ids) :]]
    assert set(around) == {IGNORED}
    assert len(around) == tokenizer.num_special_tokens_to_add(pair=False)
    assert encoder.lost_words == len(row.words) - sum(label != IGNORED for label in labels)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["bert", "distilbert"]), tagged())
def test_bert_gets_what_transformers_makes_of_words(family: Any, row: TaggedRow) -> None:
    # As tokenize_and_align_labels of transformers' run_ner.py.
    tokenizer = tokenizer_of(family)
    theirs = tokenizer(list(row.words), is_split_into_words=True)
    if len(theirs["input_ids"]) == 2:
        return
    expected, previous = [], None
    for word in theirs.word_ids():
        expected.append(IGNORED if word is None or word == previous else LABELS.index(row.tags[word]))
        previous = word
    _, [piece] = encoded(tokenizer, row)
    assert piece.ids == theirs["input_ids"]
    mended = [  # where the words before it have no token, I- begins an entity
        ours for ours, their in zip(piece.targets, expected, strict=True) if ours != their
    ]
    assert len(mended) == 0 or len({word for word in theirs.word_ids() if word is not None}) < len(row.words)
    assert [ours != IGNORED for ours in piece.targets] == [their != IGNORED for their in expected]


@settings(max_examples=1000, deadline=None)
@given(families, tagged(), st.integers(6, 30))
def test_long_rows_are_cut_between_words_and_lose_none(family: Any, row: TaggedRow, most: int) -> None:
    tokenizer = tokenizer_of(family)
    ids, labels, of_word = straightforward(tokenizer, row)
    if not ids:
        return
    encoder, pieces = encoded(tokenizer, row, most)
    added = tokenizer.num_special_tokens_to_add(pair=False)
    leading = 1
    inner = [(piece.ids[leading : len(piece.ids) - added + leading], piece.targets) for piece in pieces]
    assert all(len(piece.ids) <= most and len(piece.ids) == len(piece.targets) == len(piece.mask) for piece in pieces)
    found = [label for _, targets in inner for label in targets if label != IGNORED]
    assert found == [label for label in labels if label != IGNORED]  # every word, once, in order
    units: list[list[int]] = [[]]
    for token, (label, _) in zip(ids, zip(labels, of_word, strict=True), strict=True):
        if label != IGNORED and units != [[]]:
            units.append([])
        units[-1].append(token)
    expected: list[list[int]] = [[]]
    for unit in units:
        if len(ids) > most - added and len(expected[-1]) + len(unit) > most - added:
            expected.append(unit[: most - added])
            if len(unit) > most - added:
                expected.append([])
        else:
            expected[-1] += unit
    assert [tokens for tokens, _ in inner] == [part for part in expected if part]
    assert encoder.log.counts[Outcome.TRUNCATED] == any(len(unit) > most - added for unit in units)


def test_split_at_the_limit() -> None:
    assert split(6, [0, 2, 4], 6) == ([(0, 6)], False)
    assert split(6, [0, 2, 4], 5) == ([(0, 4), (4, 6)], False)
    assert split(7, [0, 1], 4) == ([(0, 1), (1, 5)], True)


@st.composite
def marked(draw: Any) -> SpansRow:
    text = " ".join(draw(st.lists(words, min_size=1, max_size=10)))
    entities, place = [], 0
    while place < len(text) and draw(st.booleans()):
        start = draw(st.integers(place, len(text) - 1))
        end = draw(st.integers(start + 1, min(len(text), start + 12)))
        if text[start:end].strip():
            entities.append(Entity(start, end, draw(st.sampled_from("AB"))))
        place = end
    return SpansRow("f:1", text=text, entities=tuple(entities))


def stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


@settings(max_examples=1500, deadline=None)
@given(families, marked(), st.integers(8, 60))
def test_entities_are_those_of_their_tokens_or_refused(family: Any, row: SpansRow, most: int) -> None:
    tokenizer = tokenizer_of(family)
    whole = tokenizer(row.text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [stripped(row.text, *span) for span in whole["offset_mapping"]]
    if not spans:
        return
    wanted = [(*stripped(row.text, entity.start, entity.end), entity.label) for entity in row.entities]
    cut = any(  # a token is partly in an entity
        max(start, first) < min(end, last) and not (start <= first and last <= end)
        for start, end, _ in wanted
        for first, last in spans
    )
    bare = any(not any(max(start, first) < min(end, last) for first, last in spans) for start, end, _ in wanted)
    try:
        encoder, pieces = encoded(tokenizer, row, most)
    except StageError as error:
        assert cut or bare
        assert error.message.startswith("f:1: spans: ")
        return
    assert not cut
    assert not bare
    added = tokenizer.num_special_tokens_to_add(pair=False)
    labels = [LABELS[int(label)] for piece in pieces for label in piece.targets[1 : len(piece.targets) - added + 1]]
    if len(labels) < len(spans):  # an entity that is longer than a piece
        assert encoder.log.counts[Outcome.TRUNCATED] == 1
        return
    assert encoder.log.counts[Outcome.TRUNCATED] == 0
    found: list[tuple[int, int, str]] = []
    for label, (first, last) in zip(labels, spans, strict=True):
        if label.startswith("B-"):
            found.append((first, last, label[2:]))
        elif label.startswith("I-"):
            assert found[-1][2] == label[2:]
            found[-1] = (found[-1][0], max(last, found[-1][1]), label[2:])
    assert [(stripped(row.text, first, last), name) for first, last, name in found] == [
        (stripped(row.text, *covered(spans, start, end)), name) for start, end, name in wanted
    ]
    for piece in pieces[1:]:  # no piece begins within an entity
        assert not LABELS[int(piece.targets[1])].startswith("I-")


def covered(spans: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """What the tokens of a span cover of it; tokenizers leave some characters out."""
    inside = [span for span in spans if max(start, span[0]) < min(end, span[1])]
    return min(first for first, _ in inside), max(last for _, last in inside)


def test_a_span_within_a_token_says_where_the_token_is() -> None:
    tokenizer = train_task_tokenizer("bert", ["hello there"] * 50, 100)
    with pytest.raises(StageError) as caught:
        encoded(tokenizer, SpansRow("f:3", text="hello there", entities=(Entity(2, 5, "A"),)))
    assert caught.value.message == "f:3: spans: A from 2 to 5 ('llo') begins or ends within a token: 'hello', 0 to 5"
    assert caught.value.remedy.startswith("Write start: 0 and end: 5")


def test_special_tokens_in_words_are_told() -> None:
    encoder, _ = encoded(tokenizer_of("bert"), TaggedRow("f:4", words=("a", "[SEP]"), tags=("O", "O")))
    assert encoder.log.locations[Outcome.SPECIAL_TOKENS] == ["f:4 ([SEP])"]
