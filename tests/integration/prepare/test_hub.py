"""hf:// models, by the hub's own client from a mirror of the hub on loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_mirror import HubMirror
from support.prepare_runs import read_outcome, read_result, run_prepare, write_job, write_rows
from support.tiny_models import build_model

URI = "hf://acme/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture
def mirror(tmp_path: Path, tiny: Path) -> Iterator[HubMirror]:
    folder = tmp_path / "hub" / "acme" / "tiny"
    shutil.copytree(tiny, folder)
    (folder / "README.md").write_text("# Tiny")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with HubMirror(tmp_path / "hub").serving() as mirror:
        yield mirror


def prepare(
    tmp_path: Path, mirror: HubMirror, env: dict[str, str] | None = None, **model: str
) -> tuple[Path, int, str]:
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": URI, **model})
    variables = {"HF_ENDPOINT": mirror.endpoint, "HF_HOME": str(tmp_path / "hf-home"), **(env or {})}
    return work, *run_prepare(work, variables)


def assert_refused(work: Path, code: int, errors: str, exit_code: int, problem: str, remedy: str) -> None:
    outcome = read_outcome(work)
    assert (code, errors.count("Traceback")) == (exit_code, 0), errors
    assert problem in outcome["message"]
    assert remedy in outcome["remedy"]


def test_download_is_pinned_and_holds_only_what_is_needed(tmp_path: Path, mirror: HubMirror, tiny: Path) -> None:
    work, code, errors = prepare(tmp_path, mirror, revision="v1")
    assert code == 0, errors
    model = read_result(work)["model"]
    assert model["revision"] == mirror.commit
    assert (model["uri"], model["path"], model["architecture"]) == (URI, "prepare/model", "llama")
    fetched = work / "prepare" / "model"
    assert sorted(p.name for p in fetched.rglob("*")) == sorted(p.name for p in tiny.iterdir())
    assert (fetched / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert all("pytorch_model.bin" not in request for request in mirror.requests)
    assert not [p for p in (work / "prepare").iterdir() if p.name.startswith(".")]


def test_a_download_that_breaks_off_goes_on_and_keeps_its_commit(tmp_path: Path, mirror: HubMirror, tiny: Path) -> None:
    mirror.cuts = 100
    work, code, errors = prepare(tmp_path, mirror)
    assert_refused(work, code, errors, 65, URI, "HF_ENDPOINT")
    mirror.cuts = 0
    mirror.refs.remove("main")  # had the branch moved on, the commit would still be the one that was begun with
    work, code, errors = prepare(tmp_path, mirror)
    assert code == 0, errors
    assert read_result(work)["model"]["revision"] == mirror.commit
    fetched = work / "prepare" / "model" / "model.safetensors"
    assert fetched.read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_token_is_sent(tmp_path: Path, mirror: HubMirror) -> None:
    mirror.token = "hf_secret"
    work, code, errors = prepare(tmp_path, mirror)
    assert_refused(work, code, errors, 12, "no such model", "HF_TOKEN")
    work, code, errors = prepare(tmp_path, mirror, {"HF_TOKEN": "hf_secret"})
    assert code == 0, errors
    assert "hf_secret" not in errors + (work / "prepare" / "stage.json").read_text()


def test_no_such_model(tmp_path: Path, mirror: HubMirror) -> None:
    work, code, errors = prepare(tmp_path, mirror, uri="hf://acme/other")
    assert_refused(work, code, errors, 12, "hf://acme/other: no such model", "spec.model.uri")


def test_no_such_revision(tmp_path: Path, mirror: HubMirror) -> None:
    work, code, errors = prepare(tmp_path, mirror, revision="v9")
    assert_refused(work, code, errors, 12, "no revision v9", "spec.model.revision")


def test_gated_model(tmp_path: Path, mirror: HubMirror) -> None:
    mirror.gated = True
    work, code, errors = prepare(tmp_path, mirror)
    assert_refused(work, code, errors, 12, "gated", "Accept the model's terms")


def test_pickled_weights_only(tmp_path: Path, mirror: HubMirror) -> None:
    (mirror.folder / "acme" / "tiny" / "model.safetensors").unlink()
    work, code, errors = prepare(tmp_path, mirror)
    assert_refused(work, code, errors, 13, "pickled (pytorch_model.bin)", "safetensors")


def test_hub_that_is_down(tmp_path: Path, mirror: HubMirror) -> None:
    mirror.status = 500
    work, code, errors = prepare(tmp_path, mirror)
    assert_refused(work, code, errors, 65, "HTTP 500", "Try again")


def test_no_hub_at_all(tmp_path: Path, mirror: HubMirror) -> None:
    work, code, errors = prepare(tmp_path, mirror, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert_refused(work, code, errors, 65, "cannot be reached", "without a network")


def test_offline(tmp_path: Path, mirror: HubMirror) -> None:
    work, code, errors = prepare(tmp_path, mirror, {"HF_HUB_OFFLINE": "1"})
    assert_refused(work, code, errors, 65, "cannot be reached", "HF_HUB_OFFLINE")
