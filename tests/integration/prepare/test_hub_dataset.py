"""hf:// data sets, by the hub's own client from a mirror of the hub on loopback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.hub_mirror import HubMirror
from support.prepare_runs import read_outcome, read_result, write_job
from tunesmith_trainer.__main__ import main

URI = "hf://datasets/acme/rows"
CARD = """---
configs:
- config_name: short
  default: true
  data_files:
  - {split: train, path: short/train-*.jsonl}
  - {split: test, path: short/test.jsonl}
- config_name: long
  data_files: long.jsonl
---
# Rows
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[HubMirror]:
    folder = tmp_path / "hub" / "datasets" / "acme" / "rows"
    for name in ("short/train-0.jsonl", "short/train-1.jsonl", "short/test.jsonl", "long.jsonl"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"prompt": f"{name} {n}", "completion": f"answer {n}"} for n in range(12)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "README.md").write_text(CARD)
    with HubMirror(tmp_path / "hub").serving() as mirror:
        yield mirror


Run = Callable[..., tuple[Path, int]]


@pytest.fixture
def prepare(tmp_path: Path, mirror: HubMirror, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the stage on the mirror's data set; returns the work folder and the exit code."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def run(**source: str) -> tuple[Path, int]:
        work = write_job(tmp_path / "work", "", dataset={"sources": [{"uri": URI, **source}]})
        return work, main(["prepare", "--work", str(work)])

    return run


def names(work: Path) -> list[str]:
    return [source["name"] for source in read_result(work)["data"]["sources"]]


def test_the_default_configuration_and_split_at_a_pinned_commit(prepare: Run, mirror: HubMirror) -> None:
    work, code = prepare(revision="v1")
    assert code == 0
    assert names(work) == [f"{URI}/short/train-0.jsonl", f"{URI}/short/train-1.jsonl"]
    data = read_result(work)["data"]
    assert data["rows"] == 24
    assert {source["revision"] for source in data["sources"]} == {mirror.commit}
    assert not any("long.jsonl" in request for request in mirror.requests)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"split": "test"}, ["short/test.jsonl"]),
        ({"configuration": "long"}, ["long.jsonl"]),
        ({"uri": f"{URI}/short/test.jsonl"}, ["short/test.jsonl"]),
        ({"uri": f"{URI}/short/train-*"}, ["short/train-0.jsonl", "short/train-1.jsonl"]),
        ({"uri": f"{URI}/short"}, ["short/test.jsonl", "short/train-0.jsonl", "short/train-1.jsonl"]),
    ],
)
def test_what_is_asked_for_is_read(prepare: Run, source: dict[str, str], expected: list[str]) -> None:
    work, code = prepare(**source)
    assert code == 0
    assert names(work) == [f"{URI}/{name}" for name in expected]


@pytest.mark.parametrize(
    ("source", "exit_code", "problem"),
    [
        ({"split": "dev"}, 11, "there is no split dev (its splits: train, test)"),
        ({"configuration": "tiny"}, 11, "there is no configuration tiny (its configurations: short, long)"),
        ({"revision": "v9"}, 11, "there is no revision v9"),
        ({"uri": "hf://datasets/acme/absent"}, 11, "no such data set on the hub"),
        ({"uri": f"{URI}/absent.jsonl"}, 11, "the data set has no such file"),
        ({"uri": f"{URI}/long.jsonl", "split": "train"}, 10, "have no meaning for a path"),
    ],
)
def test_what_is_not_there_is_named(prepare: Run, source: dict[str, str], exit_code: int, problem: str) -> None:
    work, code = prepare(**source)
    assert code == exit_code
    assert problem in read_outcome(work)["message"]
    assert read_outcome(work)["remedy"]


def test_a_gated_data_set_says_that_no_token_is_set(prepare: Run, mirror: HubMirror) -> None:
    mirror.gated = True
    work, code = prepare()
    assert code == 11
    assert "the data set is gated, and no token is set" in read_outcome(work)["message"]


def test_a_hub_that_is_down_can_be_tried_again(prepare: Run, mirror: HubMirror) -> None:
    mirror.status = 500
    assert prepare()[1] == 65
    mirror.status = None
    assert prepare()[1] == 0
