"""Bodies that no client sends are refused with a status below 500, and the server answers afterwards as before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.serving_process import ServingProcess
from support.tiny_translation import make_translator

NAMES = [
    "inputs", "parameters", "stream", "options", "max_new_tokens", "temperature", "top_k", "top_p", "stop", "seed",
    "src_lang", "tgt_lang", "truncation", "generate_parameters", "details", "return_full_text", "truncate", "messages",
    "role", "content", "model", "max_tokens", "n", "logit_bias", "logprobs", "top_logprobs", "stream_options", "id",
    "name", "shape", "datatype", "data", "outputs",
]  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 600),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["fox", "", "user", "system", "mini", "eng_Latn", "fra_Latn", "BYTES", "text", "longest_first"]),
    st.text(max_size=20),
    st.just("\ud800"),
)
JSON = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), inner)
    ),
    max_leaves=12,
)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES), VALUES | JSON, max_size=3)
TASK = st.fixed_dictionaries(
    {"inputs": VALUES | JSON}, optional={"parameters": PARAMETERS, "stream": VALUES, "options": JSON}
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]), "content": VALUES | JSON})
CHAT = st.builds(
    lambda fields, more: {**fields, **more},
    st.fixed_dictionaries(
        {"model": st.just("mini"), "messages": st.lists(MESSAGE, max_size=3) | JSON, "max_tokens": st.just(3)}
    ),
    PARAMETERS,
)
TENSOR = st.fixed_dictionaries(
    {"name": VALUES, "shape": st.lists(st.integers(-1, 3), max_size=2), "datatype": st.sampled_from(["BYTES", "FP32"])},
    optional={"data": JSON, "parameters": JSON},
)
INFER = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=2) | JSON}, optional={"parameters": PARAMETERS, "outputs": JSON}
)
GOOD = {"inputs": "fox", "parameters": {"max_new_tokens": 5}}
BODIES = st.one_of(
    # What is drawn at random is hardly ever a good body; between the others there must be some.
    st.tuples(st.just("/"), st.builds(lambda text: {**GOOD, "inputs": text}, st.text("aefox ", min_size=1))),
    st.tuples(st.just("/"), TASK),
    st.tuples(st.just("/models/mini"), TASK | JSON),
    st.tuples(st.just("/v1/chat/completions"), CHAT),
    st.tuples(st.just("/v2/models/mini/infer"), INFER),
)


@pytest.fixture(scope="module", params=["translation", "textGeneration"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    artifact: Path
    if request.param == "translation":
        artifact = make_translator(tmp_path_factory.mktemp("fuzz") / "mt5", "mt5", languages=True)
    else:
        artifact = request.getfixturevalue("artifact")
    options = ("--precision", "fp32", "--model-name", "mini", "--threads", "1", "--context-length", "64")
    with ServingProcess(artifact, *options) as process:
        yield process


def test_no_body_breaks_the_server(fuzzed: ServingProcess) -> None:
    before = httpx.post(f"{fuzzed.url}/", json=GOOD).json()
    client = httpx.Client(base_url=fuzzed.url, timeout=300)
    seen: dict[int, int] = {}

    @settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(BODIES)
    def run(sent: tuple[str, Any]) -> None:
        path, body = sent
        response = client.post(path, content=json.dumps(body).encode())
        seen[response.status_code] = seen.get(response.status_code, 0) + 1
        assert response.status_code < 500, (path, body, response.text)
        if response.status_code >= 400:
            assert response.json()["error"]

    run()
    assert seen[200] > 10 and seen[400] > 100, seen
    assert httpx.post(f"{fuzzed.url}/", json=GOOD).json() == before
    assert httpx.get(f"{fuzzed.url}/readyz").status_code == 200
