"""What is sent to a model's server differs from what was asked in the name of the model and the usage alone."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_hosted.http.strict_json import object_of
from tunesmith_hosted.routing.body import Asked

NAMES = st.sampled_from(["model", "stream", "mode", 'a"model', "\\", "é"])
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.sampled_from(["model", '"model":"a"', '\\"model', "\\u006d", "é😀"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


@given(
    members=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    model=st.sampled_from(["a", "ft:b", 'q"uote', "é"]),
    at=st.integers(0, 5),
    ascii=st.booleans(),
    escaped=st.booleans(),
    stream=st.booleans(),
    options=st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": False, "x": 1}]),
)
@settings(deadline=None)
def test_only_the_name_and_the_usage_change(
    members: list[tuple[str, Any]],
    model: str,
    at: int,
    ascii: bool,
    escaped: bool,
    stream: bool,
    options: dict[str, Any] | None,
) -> None:
    """However the body is written; its object may be known already or not."""
    pairs = [(json.dumps(name, ensure_ascii=ascii), json.dumps(v, ensure_ascii=ascii)) for name, v in members]
    pairs.insert(at, ('"mo\\u0064el"' if escaped else '"model"', json.dumps(model, ensure_ascii=ascii)))
    pairs.append(('"stream"', json.dumps(stream)))
    if options is not None:
        pairs.append(('"stream_options"', json.dumps(options)))
    raw = ("{ " + " ,".join(f"{name}: {value}" for name, value in pairs) + "}").encode()
    fields = json.loads(raw)
    if not isinstance(fields["model"], str):
        return  # a later member of the same name counts
    wanted = {**fields, "model": "w"}
    if stream:
        wanted["stream_options"] = {**(options or {}), "include_usage": True}
    for known in (object_of(raw), None):
        asked = Asked(raw, known)
        assert (asked.model, asked.stream) == (fields["model"], stream)
        assert json.loads(asked.sent("w", with_usage=True)) == wanted
        assert json.loads(asked.sent("w", with_usage=False)) == {**fields, "model": "w"}


@pytest.mark.parametrize("spaced", [False, True])
def test_other_bytes_stay_as_they_are(spaced: bool) -> None:
    raw = b'{ "x" : 1.0E+2, "model" : "a" ,"y":"\xc3\xa9"}' if spaced else b'{"model":"a","x":1.0E+2}'
    assert Asked(raw, object_of(raw)).sent("w", with_usage=True) == raw.replace(b'"a"', b'"w"')


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"mo\u0064el":"a","x":{"model":"b"}}',
        rb'{"x":{"model":"b"},"model":"a"}',
        rb'{"model":"a","x":"\"model\":\"b\""}',
        rb'{"x":"see \"model","model":"a"}',
        rb'{"model":"b","model":"a"}',
        rb'{"x":"model","model":"a"}',
    ],
)
def test_what_looks_like_the_name_stays(raw: bytes) -> None:
    sent = Asked(raw, object_of(raw)).sent("w", with_usage=True)
    assert json.loads(sent) == {**json.loads(raw), "model": "w"}
