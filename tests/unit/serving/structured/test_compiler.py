"""Compiling grammars and following them with tokenizers of each kind."""

import asyncio
import json
import re
import threading
import time

import numpy as np
import pytest

from support.json_schemas import closed, follow
from support.tokenizer_samples import STOP, Kind, definition
from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintError
from tunesmith_serving.engines.text_generation.structured import compiler as compiling
from tunesmith_serving.engines.text_generation.structured import grammar
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

UNUSED = 9  # logits beyond the tokenizer's tokens


class Model:
    """A tokenizer with its compiler, and random numbers in the place of a model."""

    def __init__(self, kind: Kind) -> None:
        self.tokenizer = Tokenizer(definition(kind))
        self.stop = self.tokenizer.token_id(STOP) or 0
        self.vocab_size = self.tokenizer.vocab_size + UNUSED
        self.compiler = GrammarCompiler(self.tokenizer, self.vocab_size, frozenset({self.stop}))
        self.rng = np.random.default_rng(5)

    def answer(self, wanted: Grammar) -> str:
        source = self.compiler.compile_now(wanted)
        text, complete = follow(source.start(), self.tokenizer, self.rng, self.vocab_size, self.stop)
        assert complete
        return text

    def allowed(self, constraint: object) -> set[int]:
        logits = np.zeros(self.vocab_size, np.float32)
        constraint.allow(logits)  # type: ignore[attr-defined]
        return set(np.flatnonzero(np.isfinite(logits)).tolist())


@pytest.fixture(scope="module", params=["byte-level", "byte-fallback", "unigram"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


@pytest.fixture(scope="module")
def bpe() -> Model:
    return Model("byte-level")


def test_each_kind_of_grammar(model: Model) -> None:
    assert {model.answer(grammar.choice(["yes", "no", "yes and no"])) for _ in range(12)} <= {"yes", "no", "yes and no"}
    for _ in range(5):
        assert re.fullmatch(r"[a-e]{2,5} \d{3}:x", model.answer(grammar.regex(r"[a-e]{2,5} \d{3}:x")), re.ASCII)
        assert re.fullmatch(r"(\d,)*\d", model.answer(grammar.lark('start: N ("," N)*\nN: /[0-9]/')))
        assert re.fullmatch(r"(ab)+c", model.answer(Grammar("gbnf", 'root ::= ("a" "b")+ "c"')))
        value = json.loads(model.answer(grammar.json_schema(closed({"a b": {"enum": ["o o", "r r"]}}))))
        assert value["a b"] in ("o o", "r r")
    assert isinstance(json.loads(model.answer(grammar.json_object())), dict)


def test_letters_of_several_bytes(model: Model) -> None:
    if model.tokenizer.token_id("<0xE6>") is None and model.tokenizer.token_id("Ġ") is None:
        with pytest.raises(GrammarError, match="vocabulary"):
            model.compiler.compile_now(grammar.choice(["ŷ"]))
        return
    assert model.answer(grammar.choice(["東京 ŷ🙃"])) == "東京 ŷ🙃"


def test_the_end_is_allowed_only_when_the_grammar_is_complete(model: Model) -> None:
    constraint = model.compiler.compile_now(grammar.regex("a{2,3}")).start()
    a = model.tokenizer.token_id("a") or 0
    for complete in (False, False, True):
        assert not constraint.done
        assert (model.stop in model.allowed(constraint)) == complete
        assert all(token < model.tokenizer.vocab_size for token in model.allowed(constraint))
        constraint.accept(a)
    assert constraint.done


def test_a_text_that_may_go_on_is_not_done(bpe: Model) -> None:
    constraint = bpe.compiler.compile_now(grammar.choice(["a", "aa"])).start()
    a = bpe.tokenizer.token_id("a") or 0
    constraint.accept(a)
    assert not constraint.done
    assert bpe.allowed(constraint) == {a, bpe.stop}


def test_tokens_that_a_text_does_not_hold(model: Model) -> None:
    special, held = model.compiler.token("[TOOL_CALLS]"), model.compiler.token("<tool_call>")
    constraint = model.compiler.compile_now(grammar.lark(f'start: {special} {held} "x"')).start()
    for name in ("[TOOL_CALLS]", "<tool_call>"):
        index = model.tokenizer.token_id(name) or 0
        assert model.allowed(constraint) == {index}
        constraint.accept(index)
    assert model.compiler.token("x") == '"x"'
    # In the text of an answer, special tokens never stand for their letters.
    free = model.compiler.compile_now(grammar.regex("(.|\n)*")).start()
    assert model.tokenizer.token_id("[TOOL_CALLS]") not in model.allowed(free)


def test_a_schema_within_a_grammar(bpe: Model) -> None:
    rule = grammar.json_rule(closed({"city": {"enum": ["Rome"]}}))
    assert bpe.answer(grammar.lark(f'start: "call " {rule} "."')) == 'call {"city":"Rome"}.'


def test_answers_of_one_grammar_do_not_disturb_one_another(bpe: Model) -> None:
    source = bpe.compiler.compile_now(grammar.regex("ab|ba"))
    one, two = source.start(), source.start()
    a, b = bpe.tokenizer.token_id("a") or 0, bpe.tokenizer.token_id("b") or 0
    one.accept(a)
    two.accept(b)
    assert (bpe.allowed(one), bpe.allowed(two)) == ({b}, {a})


def test_a_token_that_was_not_allowed(bpe: Model) -> None:
    constraint = bpe.compiler.compile_now(grammar.regex("ab")).start()
    with pytest.raises(ConstraintError):
        constraint.accept(bpe.tokenizer.token_id("b") or 0)


@pytest.mark.parametrize(
    "wanted",
    [
        grammar.regex("[a"),
        grammar.regex("(?=a)b"),
        grammar.lark("start: A"),
        grammar.lark("start: <|none|>"),
        grammar.lark("other: A"),
        Grammar("gbnf", "nothing"),
        Grammar("gbnf", "root ::= " + "(" * 5000),
        grammar.lark("start: " + '"a" ' * 100_000),
    ],
)
def test_wrong_grammars_are_refused_in_one_line(wanted: Grammar, bpe: Model) -> None:
    with pytest.raises(GrammarError) as caught:
        bpe.compiler.compile_now(wanted)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_equal_grammars_are_compiled_once_and_few_are_kept(bpe: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CACHED_GRAMMARS", 3)
    first = bpe.compiler.compile_now(grammar.regex("k0"))
    assert bpe.compiler.compile_now(grammar.regex("k0")) is first
    for index in range(1, 3):
        bpe.compiler.compile_now(grammar.regex(f"k{index}"))
    assert bpe.compiler.compile_now(grammar.regex("k0")) is first  # used last: k1 goes next
    bpe.compiler.compile_now(grammar.regex("k3"))
    assert bpe.compiler.compile_now(grammar.regex("k0")) is first
    assert bpe.compiler.compile_now(grammar.json_schema({})) is not bpe.compiler.compile_now(
        grammar.json_schema({}, lenient=True)
    )


@pytest.mark.asyncio
async def test_the_event_loop_runs_while_a_grammar_compiles(bpe: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    read = compiling.read

    def slow(wanted: Grammar) -> str:
        threads.append(threading.current_thread())
        time.sleep(0.2)
        return read(wanted)

    monkeypatch.setattr(compiling, "read", slow)
    task = asyncio.create_task(bpe.compiler.compile(grammar.regex("slow")))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 3
    assert threads != [threading.current_thread()]
    assert await bpe.compiler.compile(grammar.regex("slow")) is task.result()
    assert len(threads) == 1

    monkeypatch.setattr(compiling, "COMPILE_SECONDS", 0.05)
    with pytest.raises(GrammarError, match="too complex"):
        await bpe.compiler.compile(grammar.regex("slower"))


def test_looking_ahead_leaves_the_answer_where_it_is(bpe: Model) -> None:
    constraint = bpe.compiler.compile_now(grammar.regex(r"[ab]{3}[0-9]")).start()
    a, b, one = (bpe.tokenizer.encode(text, False)[0] for text in "ab1")
    first = bpe.allowed(constraint)
    ahead = constraint.fork()
    for token in (a, b, a):
        ahead.accept(token)
    assert one in bpe.allowed(ahead) and a not in bpe.allowed(ahead)
    assert bpe.allowed(constraint) == first
    assert [constraint.valid(tokens) for tokens in ([a, b, a, one], [a, one, a], [one], [])] == [4, 1, 0, 0]
    assert bpe.allowed(constraint) == first
    ahead.accept(one)
    assert ahead.done and ahead.valid([a]) == 0
    assert constraint.valid([a, b, a, one, bpe.stop]) >= 4
