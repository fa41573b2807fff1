"""What a stage writes to its termination log: JSON, and never more than a kubelet reads."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.contract import TERMINATION_LOG, TERMINATION_MESSAGE_BYTES
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.runtime.termination_message import encode, write_failure, write_result

RESOLVED = {f"field{n}": {"value": n, "reason": f"because {'x' * 200}"} for n in range(20)}


def words(message: str = "", remedy: str = "", **result) -> dict:
    return {"reason": "InvalidDataset", "message": message, "remedy": remedy, "result": result}


def test_short_words_are_left_as_they_are():
    said = words("rows.jsonl:3: naïve 😀", "Add it", artifact={"uri": "s3://a", "digest": "sha256:0"})
    assert json.loads(encode(said)) == said


def test_reasons_are_shortened_before_values_are_left_out():
    said = words(resolved=RESOLVED, progress={"step": 1})
    shortened = json.loads(encode(said))
    assert len(encode(said)) <= TERMINATION_MESSAGE_BYTES
    assert {name: entry["value"] for name, entry in shortened["result"]["resolved"].items()} == {
        name: entry["value"] for name, entry in RESOLVED.items()
    }
    without = json.loads(encode(words(resolved=RESOLVED, progress={"step": 1}), 900))
    assert without["result"] == {"progress": {"step": 1}}


def test_gates_and_parity_are_left_out_before_the_artifact_is():
    artifact = {"uri": "s3://bucket/artifact", "digest": "sha256:" + "0" * 64}
    gates = [{"metric": "exactMatch", "min": 0.8, "served": "int4", "value": 0.9812345678901234, "passed": True}] * 48
    said = words(artifact=artifact, metrics={"after": {"evalLoss": 0.1}}, gates=gates, parity={"int4": {}})
    found = json.loads(encode(said))["result"]
    assert found == {"artifact": artifact, "metrics": {"after": {"evalLoss": 0.1}}}


def test_the_end_of_a_long_text_is_cut_and_the_reason_stays():
    cut = json.loads(encode(words("m" * 9000, "r" * 100)))
    assert cut["reason"] == "InvalidDataset"
    assert cut["message"].startswith("mmm")
    assert cut["message"].endswith("…")
    assert cut["remedy"] == "r" * 100


def test_numbers_that_json_has_not_become_null():
    assert json.loads(encode(words(metrics={"perplexity": float("inf"), "loss": float("nan")})))["result"] == {
        "metrics": {"perplexity": None, "loss": None}
    }


text = st.text(st.characters(), max_size=3000) | st.text('\x00"\\😀é\ud800', max_size=3000)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(text, text, st.dictionaries(st.text(max_size=8), text, max_size=3), st.integers(256, TERMINATION_MESSAGE_BYTES))
def test_whatever_is_said_it_is_short_and_json(message, remedy, result, longest):
    data = encode(words(message, remedy, **{"artifact": result, "resolved": {}}), longest)
    assert len(data) <= longest
    said = json.loads(data.decode("utf-8"))
    assert said.keys() == {"reason", "message", "remedy", "result"}
    assert said["reason"] == "InvalidDataset"


def test_it_is_written_where_the_variable_says(tmp_path, monkeypatch):
    path = tmp_path / "log"
    write_result({"artifact": {}})  # nowhere
    monkeypatch.setenv(TERMINATION_LOG, str(path))
    write_result({"artifact": {"uri": "x"}})
    assert json.loads(path.read_bytes())["result"] == {"artifact": {"uri": "x"}}
    write_failure(StageError(Reason.GATE_FAILED, "no", "yes"))
    assert json.loads(path.read_bytes()) == {"reason": "GateFailed", "message": "no", "remedy": "yes", "result": {}}


@pytest.mark.usefixtures("caplog")
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(TERMINATION_LOG, str(tmp_path / "no" / "log"))
    write_result({})
