"""Each rule says the same in CEL, to the API server, and in Python, to everything else."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import celpy
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from support.schema_strategies import from_schema
from tunesmith_api.codegen.schema import model_schema, rules_of
from tunesmith_api.manifests.fields import models_in
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_api.spec import Rule, SpecModel


def models(model: type) -> Iterator[type]:
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from models(inner)


RULES = list(
    {
        (model.__name__, rule.cel): (model, rule)
        for kind in (FineTuneJob, InferenceWorkspace)
        for model in models(kind)
        for rule in rules_of(model)
    }.values()
)
DRAWN = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
ENVIRONMENT = celpy.Environment()
# Values that rules ask about and that hardly ever come by chance, by field.
HINTS = {
    "uri": ["pvc://claim/path", "pvc://claim/../path", "hf://a/b"],
    "name": ["1st", "my.model", "my-model"],
    "adapters": [[{"name": "my-model", "uri": "./a"}], [{"name": "a", "uri": "./a"}, {"name": "a", "uri": "./b"}]],
    "nvmePath": ["/nvme", "/usr/nvme", "/users"],
    "nodeSelector": [{"kubernetes.azure.com/agentpool": "a", "node.kubernetes.io/instance-type": "b"}],
    "output": [{"retain": False}, {"uri": "./a"}],
    "storage": [{"claimName": "c"}, {"uri": "s3://b"}, {"accessMode": "ReadWriteOnce"}],
    "nodes": [1, 2],
}


@cache
def schema_of(model: type) -> dict[str, Any]:
    return model_schema(model)


@cache
def program(cel: str) -> celpy.Runner:
    return ENVIRONMENT.program(ENVIRONMENT.compile(cel))


def holds_in_cel(rule: Rule, value: dict[str, Any]) -> bool:
    return bool(program(rule.cel).evaluate({"self": celpy.json_to_cel(value)}))


def asked_about(schema: dict[str, Any], words: frozenset[str], *, whole: bool) -> dict[str, Any]:
    """Return a schema with those fields only that a rule names, and those that must be there.

    Args:
        schema: The schema of an object, or of anything else.
        words: The words of the rule.
        whole: Let each of these fields be there: rules over several are hardly ever broken by chance otherwise.
    """
    if "properties" not in schema:
        return schema
    kept = words | set(schema.get("required", ()))
    fields = {
        name: asked_about(field, words, whole=whole) for name, field in schema["properties"].items() if name in kept
    }
    return {**schema, "properties": fields, **({"required": list(fields)} if whole else {})}


@cache
def part_of(model: type, words: frozenset[str], *, whole: bool) -> st.SearchStrategy[Any]:
    """Return the strategy for what a rule asks about. Made anew for each value it would take most of the time.

    Its fields are in the schema's order and never in that of a set, which differs between processes.
    """
    return from_schema(asked_about(schema_of(model), words, whole=whole), depth=3)


@st.composite
def values_of(draw: st.DrawFn, model: type, rule: Rule) -> Any:
    """Return a value of what a rule asks about in a model's schema, some fields of it with a value of `HINTS`.

    What a rule compares a field with, one of many names, would hardly ever come by chance either.
    """
    named = dict(re.findall(r"(\w+) [!=]= '(\w+)'", rule.cel))

    def hinted(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: chosen(key, item) for key, item in value.items()}

    def chosen(key: str, item: Any) -> Any:
        if key in HINTS and draw(st.integers(0, 2)):
            return draw(st.sampled_from(HINTS[key]))
        return named[key] if key in named and not draw(st.integers(0, 2)) else hinted(item)

    words = frozenset(re.findall(r"\w+", rule.cel))
    return hinted(draw(part_of(model, words, whole=draw(st.booleans()))))


def without_rules(model: type[SpecModel], value: Any) -> Any:
    """Return the model of a value whose fields are valid, whatever its rules say."""
    fields = {}
    for name, field in model.model_fields.items():
        if field.alias not in value:
            fields[name] = field.get_default(call_default_factory=True)
            continue
        inner = next(models_in(field.annotation), None)
        item = value[field.alias]
        if inner is None:
            fields[name] = tuple(item) if isinstance(item, list) else item
        elif isinstance(item, list):
            fields[name] = tuple(without_rules(inner, part) for part in item)
        elif "dict[" in str(field.annotation):
            fields[name] = {key: without_rules(inner, part) for key, part in item.items()}
        else:
            fields[name] = without_rules(inner, item)
    return model.model_construct(**fields)


def test_every_rule_is_here():
    assert len(RULES) >= 14
    assert {model.__name__ for model, _ in RULES} >= {"JobModelSpec", "FineTuneJobSpec", "GateSpec", "ServedModelSpec"}


@pytest.mark.parametrize(("model", "rule"), RULES, ids=[f"{model.__name__}-{rule.cel[:40]}" for model, rule in RULES])
def test_cel_and_python_agree(model, rule):
    seen = set()

    def agree(value):
        built = without_rules(model, copy.deepcopy(value))
        # What the API server judges has its defaults filled in.
        complete = built.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)
        expected = bool(rule.check(built))
        seen.add(expected)
        assert holds_in_cel(rule, complete) == expected, complete
        return expected

    values = values_of(model, rule)

    @settings(DRAWN, max_examples=40)
    @given(values)
    def always(value):
        agree(value)

    always()
    # A rule that is never broken, or never kept, has not been tested. What is drawn depends on what is imported too.
    for missing in {True, False} - seen:
        once = settings(DRAWN, max_examples=5000, phases=[Phase.generate])
        find(values, lambda value, wanted=missing: agree(value) is wanted, settings=once)


@pytest.mark.parametrize(("model", "rule"), RULES, ids=[f"{model.__name__}-{rule.cel[:40]}" for model, rule in RULES])
def test_every_message_says_what_to_do(model, rule):
    wrong, _, remedy = rule.message.partition("; ")
    assert wrong
    assert remedy.startswith(("write ", "remove ", "lower ", "swap "))
