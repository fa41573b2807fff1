"""Whether what is there already is what is wanted."""

from typing import Any

import pytest

from tunesmith_operator.engine.apply.difference import APPLIED, configuration_digest, contains, overlaid, with_digest

CONTAINED: list[tuple[str, Any, Any]] = [
    ("more fields", {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 2}}),
    ("numbers as floats", {"a": 1}, {"a": 1.0}),
    ("nothing for None", {}, {"a": None}),
    ("nothing for an empty object", {}, {"a": {}}),
    ("nothing for an empty list", {}, {"a": []}),
    ("nothing for false", {}, {"a": False}),
    ("defaults in list items", [{"name": "a", "protocol": "TCP"}], [{"name": "a"}]),
    ("an injected container", [{"name": "x"}, {"name": "a", "image": "i"}], [{"name": "a", "image": "i"}]),
]
NOT_CONTAINED: list[tuple[str, Any, Any]] = [
    ("another value", {"a": 1}, {"a": 2}),
    ("true for 1", {"a": 1}, {"a": True}),
    ("a missing field", {}, {"a": 1}),
    ("true that is absent", {}, {"a": True}),
    ("false that is true", {"a": True}, {"a": False}),
    ("a shorter list", ["a"], ["a", "b"]),
    ("a longer plain list", ["a", "b"], ["a"]),
    ("another order of a plain list", ["a", "b"], ["b", "a"]),
    ("another item of a name", [{"name": "x"}, {"name": "a", "image": "j"}], [{"name": "a", "image": "i"}]),
    ("a string for an object", {"a": "x"}, {"a": {"b": 1}}),
    ("a string for a list", {"a": "x"}, {"a": [1]}),
]


@pytest.mark.parametrize(("observed", "desired"), [case[1:] for case in CONTAINED], ids=[c[0] for c in CONTAINED])
def test_contained(observed: Any, desired: Any) -> None:
    assert contains(observed, desired)


@pytest.mark.parametrize(
    ("observed", "desired"), [case[1:] for case in NOT_CONTAINED], ids=[c[0] for c in NOT_CONTAINED]
)
def test_not_contained(observed: Any, desired: Any) -> None:
    assert not contains(observed, desired)


def test_a_field_that_is_no_longer_wanted_shows_in_the_digest() -> None:
    before = with_digest({"metadata": {"name": "a", "ownerReferences": [{"uid": "u"}]}, "spec": {"x": 1, "y": 2}})
    after = with_digest({"metadata": {"name": "a"}, "spec": {"x": 1}})
    assert contains({**before, "status": {}}, before)
    assert not contains(before, after)
    assert APPLIED not in {"name": "a"}
    assert before["metadata"]["annotations"][APPLIED] != after["metadata"]["annotations"][APPLIED]


def test_the_configuration_digest_ignores_what_the_server_counts() -> None:
    obj = {"metadata": {"name": "a", "resourceVersion": "1", "generation": 1}, "spec": {"x": 1}, "status": {"s": 1}}
    later = {**obj, "metadata": {"name": "a", "resourceVersion": "9", "generation": 2}, "status": {"s": 2}}
    assert configuration_digest(obj) == configuration_digest(later)
    assert configuration_digest(obj) != configuration_digest({**obj, "spec": {"x": 2}})
    labelled = {**obj, "metadata": {**obj["metadata"], "labels": {"a": "b"}}}
    assert configuration_digest(obj) != configuration_digest(labelled)


def test_an_overlay_merges_objects_and_replaces_lists() -> None:
    observed = {"a": {"x": 1, "y": 2}, "ports": [{"name": "http", "port": 81}], "kept": True}
    desired = {"a": {"x": 3}, "ports": [{"name": "http", "port": 80}], "new": 1}
    made = overlaid(observed, desired)
    assert made == {"a": {"x": 3, "y": 2}, "ports": [{"name": "http", "port": 80}], "kept": True, "new": 1}
    assert observed["a"] == {"x": 1, "y": 2}
