import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from tunesmith_serving.engines.text_generation.text.stream import CONTEXT_TOKENS, IncrementalDetokenizer, StopMatcher
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer, byte_level_table


def byte_tokenizer() -> Tokenizer:
    """Every byte is a token, so that most characters outside ASCII are split."""
    vocabulary = {character: byte for character, byte in byte_level_table().items()}
    plain = HfTokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return Tokenizer(plain.to_str())


def sentencepiece_like() -> Tokenizer:
    """Words with a space mark in front, and bytes for what the vocabulary lacks: the form of Llama 2 and Phi-3."""
    pieces = ["<unk>", "▁Hello", "▁world", "▁a", "b", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    plain = HfTokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[]))
    plain.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(plain.to_str())


BYTES = byte_tokenizer()
PIECES = sentencepiece_like()


def pieces_of(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = IncrementalDetokenizer(tokenizer)
    return [*(stream.push(token) for token in ids), stream.flush()]


@given(st.lists(st.integers(0, 255), max_size=60))
def test_pieces_of_any_bytes_are_the_text(ids: list[int]) -> None:
    assert "".join(pieces_of(BYTES, ids)) == BYTES.decode(ids) == bytes(ids).decode(errors="replace")


@given(st.text(max_size=40))
def test_no_half_characters(text: str) -> None:
    pieces = pieces_of(BYTES, list(text.encode()))
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@example([" ", "\U00010000"])  # the space is stripped, and is no part of the character whose bytes follow it
@given(st.lists(st.integers(1, 5) | st.characters(exclude_characters="\ufffd", codec="utf-8"), max_size=30))
def test_pieces_with_byte_fallback(parts: list[int | str]) -> None:
    ids = []
    for part in parts:
        ids += [part] if isinstance(part, int) else [6 + byte for byte in part.encode()]
    pieces = pieces_of(PIECES, ids)
    assert "".join(pieces) == PIECES.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_comes_as_soon_as_it_is_whole() -> None:
    assert pieces_of(BYTES, list("a🙂b".encode())) == ["a", "", "", "", "🙂", "b", ""]
    assert pieces_of(BYTES, [0xF0, 0x9F]) == ["", "", "\ufffd"]


@given(st.lists(st.integers(1, 5), max_size=8), st.lists(st.integers(1, 5), max_size=8))
def test_text_that_continues_another_keeps_its_space(before: list[int], ids: list[int]) -> None:
    """Decoders of this form leave out the space at the beginning of a text, not of what follows one."""
    stream = IncrementalDetokenizer(PIECES, before[-CONTEXT_TOKENS:])
    found = "".join([*(stream.push(token) for token in ids), stream.flush()])
    cut = len(PIECES.decode(before[-CONTEXT_TOKENS:]))
    assert found == PIECES.decode(before[-CONTEXT_TOKENS:] + ids)[cut:]
    if before and any(token not in (5,) for token in before[-CONTEXT_TOKENS:]):
        assert PIECES.decode(before) + found == PIECES.decode(before + ids)


def test_characters_that_the_prompt_has_cut_spoil_nothing() -> None:
    half = [6 + byte for byte in "é".encode()][:1]
    stream = IncrementalDetokenizer(PIECES, [1, *half])
    assert stream.push(2) == "world"


def test_token_bytes() -> None:
    assert [BYTES.token_bytes(index) for index in (65, 32, 0xC3)] == [b"A", b" ", b"\xc3"]
    assert PIECES.token_bytes(1) == b" Hello"
    assert PIECES.token_bytes(6 + 0xE2) == b"\xe2"
    assert BYTES.token_bytes(100_000) == b""


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4),
    st.lists(st.integers(0, 30), max_size=10),
)
def test_stop_strings_for_any_split(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(tuple(stops))
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    got, stopped = "", False
    for start, end in zip(borders, borders[1:], strict=False):
        piece, stopped = matcher.push(text[start:end])
        got += piece
        assert not any(stop in got for stop in stops)
        if stopped:
            break
    if not stopped:
        assert got + matcher.flush() == text
        assert not any(stop in text for stop in stops)
    else:
        # The first string that is complete ends the text; nothing of it has gone out.
        assert text.startswith(got)
        assert any(text[len(got) :].startswith(stop) for stop in stops)


def test_what_cannot_become_a_stop_string_goes_out_at_once() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.push("the E") == ("the ", False)
    assert matcher.push("N") == ("", False)
    assert matcher.push("vy") == ("ENvy", False)
    assert matcher.push("E") == ("", False)
    assert matcher.push("ND and more") == ("", True)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        BYTES.encode("a\ud800", add_special_tokens=False)


def with_template(single: str) -> Tokenizer:
    """A tokenizer that adds special tokens to a text, as Llama's does."""
    plain = HfTokenizer(models.BPE(vocab={"<s>": 0, "</s>": 1, "a": 2, "b": 3}, merges=[]))
    plain.add_special_tokens(["<s>", "</s>"])
    plain.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B:1", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return Tokenizer(plain.to_str())


@pytest.mark.parametrize(
    ("single", "text", "expected"),
    [
        ("<s> $A", "ab", [0, 2, 3]),
        ("<s> $A", "<s>ab", [0, 2, 3]),  # a rendered template holds its BOS
        ("<s> $A", "a<s>b", [0, 2, 0, 3]),
        ("<s> $A", "", [0]),
        ("<s> $A </s>", "ab", [0, 2, 3]),  # an end that is to be continued is none
        ("$A </s>", "ab", [2, 3]),
        ("$A", "<s>ab", [0, 2, 3]),
    ],
)
def test_a_prompt_gets_one_bos(single: str, text: str, expected: list[int]) -> None:
    tokenizer = with_template(single)
    assert tokenizer.encode(text, add_special_tokens=True) == expected
    assert 0 not in tokenizer.encode("ab", add_special_tokens=False)
