"""A model with random weights answers schemas of many kinds, in one batch; a short cut of tests/bench/structured.py."""

import json
from collections.abc import Callable

from jsonschema import Draft202012Validator

from support.json_schemas import SUITE, closing_tokens, make_schemas
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.engines.text_generation.structured import grammar
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler


def test_answers_are_valid(load: Callable[..., TextGenerationEngine]) -> None:
    engine = load(max_batch_size=8, max_queue_length=200)
    compiler = GrammarCompiler(engine.tokenizer, engine.batcher.vocab_size, engine.stop_token_ids)
    # Closing quotes and brackets are likely, so that texts of random weights come to an end.
    bias = tuple((token, 6 * value) for token, value in closing_tokens(engine.tokenizer).items())
    schemas = [*SUITE[::3], *list(make_schemas(len(SUITE) + 30, seed=11))[len(SUITE) :]]
    collectors = []
    for number, schema in enumerate(schemas):
        prompt = tuple(engine.tokenizer.encode(f"Answer {number}: ", add_special_tokens=True))
        params = SamplingParams(temperature=(0.0, 0.7, 1.5)[number % 3], seed=number, logit_bias=bias)
        source = compiler.compile_now(grammar.json_schema(schema))
        collectors.append(Collector())
        engine.batcher.submit(GenerationRequest(prompt, params, constraint=source), collectors[-1])
    ended = 0
    for schema, collector in zip(schemas, collectors, strict=True):
        answer = collector.result(300)
        assert answer.finish_reason in ("stop", "length"), answer
        if answer.finish_reason == "stop":
            Draft202012Validator(schema).validate(json.loads(answer.text))
            ended += 1
    assert ended > 0.9 * len(schemas) > 50
