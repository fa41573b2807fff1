"""hf:// models, by the hub's own client from a mirror of the hub on loopback."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from support.hub_mirror import HubMirror
from support.prepare_runs import read_outcome, read_result, run_prepare, write_job, write_rows
from support.tiny_models import build_model
from tunesmith_trainer.__main__ import main

URI = "hf://acme/tiny"
TURNS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' else ';' }}{% endfor %}"
)


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


Run = Callable[..., tuple[Path, int, str]]


@pytest.fixture
def prepare(
    tmp_path: Path, mirror: HubMirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the stage on the mirror's model; returns the work folder, the exit code, and what was written to stderr."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def run(**model: str) -> tuple[Path, int, str]:
        work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": URI, **model})
        capsys.readouterr()
        return work, main(["prepare", "--work", str(work)]), capsys.readouterr().err

    return run


def assert_refused(work: Path, code: int, errors: str, exit_code: int, problem: str, remedy: str) -> None:
    outcome = read_outcome(work)
    assert (code, errors.count("Traceback")) == (exit_code, 0), errors
    assert problem in outcome["message"]
    assert remedy in outcome["remedy"]


def test_download_is_pinned_and_holds_only_what_is_needed(tmp_path: Path, mirror: HubMirror, tiny: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    work = write_job(tmp_path / "work", rows, {"uri": URI, "revision": "v1"})
    code, errors = run_prepare(work, {"HF_ENDPOINT": mirror.endpoint, "HF_HOME": str(tmp_path / "hf-home")})
    assert code == 0, errors
    model = read_result(work)["model"]
    assert model["revision"] == mirror.commit
    assert (model["uri"], model["path"], model["architecture"]) == (URI, "prepare/model", "llama")
    fetched = work / "prepare" / "model"
    assert sorted(p.name for p in fetched.rglob("*")) == sorted(p.name for p in tiny.iterdir())
    assert (fetched / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert all("pytorch_model.bin" not in request for request in mirror.requests)
    assert not [p for p in (work / "prepare").iterdir() if p.name.startswith(".")]


def test_a_download_that_breaks_off_goes_on_and_keeps_its_commit(prepare: Run, mirror: HubMirror, tiny: Path) -> None:
    mirror.cuts = 100
    work, code, errors = prepare()
    assert_refused(work, code, errors, 65, URI, "HF_ENDPOINT")
    mirror.cuts = 0
    mirror.refs.remove("main")  # had the branch moved on, the commit would still be the one that was begun with
    work, code, errors = prepare()
    assert code == 0, errors
    assert read_result(work)["model"]["revision"] == mirror.commit
    fetched = work / "prepare" / "model" / "model.safetensors"
    assert fetched.read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_token_is_sent(prepare: Run, mirror: HubMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.token = "hf_secret"
    work, code, errors = prepare()
    assert_refused(work, code, errors, 12, "no such model", "HF_TOKEN")
    assert "no token is set: HF_TOKEN is empty" in read_outcome(work)["message"]
    assert "HTTP" not in errors
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    work, code, errors = prepare()
    assert code == 0, errors
    assert "hf_secret" not in errors + (work / "prepare" / "stage.json").read_text()


def test_no_such_model(prepare: Run) -> None:
    work, code, errors = prepare(uri="hf://acme/other")
    assert_refused(work, code, errors, 12, "hf://acme/other: no such model", "spec.model.uri")


def test_no_such_revision(prepare: Run) -> None:
    work, code, errors = prepare(revision="v9")
    assert_refused(work, code, errors, 12, "no revision v9", "spec.model.revision")


def test_gated_model(prepare: Run, mirror: HubMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.gated = True
    work, code, errors = prepare()
    assert_refused(work, code, errors, 12, "the model is gated, and no token is set", "Accept the model's terms")
    assert "HTTP Request" not in errors
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    work, code, errors = prepare()
    assert_refused(work, code, errors, 12, "gated and this token has no access", "Accept the model's terms")


def test_pickled_weights_only(prepare: Run, mirror: HubMirror) -> None:
    (mirror.folder / "acme" / "tiny" / "model.safetensors").unlink()
    work, code, errors = prepare()
    assert_refused(work, code, errors, 13, "pickled (pytorch_model.bin)", "safetensors")


def test_hub_that_is_down(prepare: Run, mirror: HubMirror) -> None:
    mirror.status = 500
    work, code, errors = prepare()
    assert_refused(work, code, errors, 65, "HTTP 500", "Try again")


def test_no_hub_at_all(prepare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    work, code, errors = prepare()
    assert_refused(work, code, errors, 65, "cannot be reached", "without a network")


def test_offline(prepare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    work, code, errors = prepare()
    assert_refused(work, code, errors, 65, "cannot be reached", "HF_HUB_OFFLINE")


def test_named_chat_templates_become_one(mirror: HubMirror, prepare: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tools = "{% if tools %}<tools>{% for tool in tools %}{{ tool.function.name }} {% endfor %}</tools>{% endif %}"
    tokenizer.chat_template = {"default": TURNS, "tool_use": tools + TURNS}
    tokenizer.save_pretrained(folder)  # into two files, of which one is in a folder
    work, code, errors = prepare()
    assert code == 0, errors
    found = AutoTokenizer.from_pretrained(work / "prepare" / "model")
    assert isinstance(found.chat_template, str)
    talk = [{"role": "user", "content": "Hi"}]
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
    assert found.apply_chat_template(talk, tokenize=False) == "user: Hi;"
    assert found.apply_chat_template(talk, tools=[tool], tokenize=False) == "<tools>add </tools>user: Hi;"
    before = (work / "prepare" / "model" / "chat_template.jinja").read_bytes()
    work, code, errors = prepare()
    assert code == 0, errors
    assert (work / "prepare" / "model" / "chat_template.jinja").read_bytes() == before
