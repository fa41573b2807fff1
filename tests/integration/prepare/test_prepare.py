"""The prepare stage as its users run it: one command over a work folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.prepare_runs import SCRATCH, read_outcome, read_result, write_job, write_rows
from support.stage_files import result_tree
from support.tiny_models import build_model
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.__main__ import main
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.storage.files import sha256_tree

Refused = Callable[[Path], tuple[int, dict[str, str]]]
BAD_DATA = Path(__file__).parents[2] / "data" / "bad-data"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


def prepared(work: Path) -> dict[str, Any]:
    assert main(["prepare", "--work", str(work)]) == 0
    return read_result(work)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], tuple[int, dict[str, str]]]:
    """Runs the stage, which must fail with one line and no traceback; returns the exit code and the outcome."""

    def run(work: Path) -> tuple[int, dict[str, str]]:
        capsys.readouterr()
        code = main(["prepare", "--work", str(work)])
        outcome = read_outcome(work)
        [line] = [line for line in capsys.readouterr().err.splitlines() if outcome["reason"] in line]
        assert line == f"{outcome['reason']}: {outcome['message']}. {outcome['remedy']}"
        assert not (work / "prepare" / "stage.json").exists()
        return code, outcome

    return run


def test_scratch_writes_model_stores_and_questions(tmp_path: Path, rows: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    work = write_job(tmp_path / "work", rows)
    result = prepared(work)
    data = result["data"]
    assert (data["format"], data["rows"], data["trainRows"], data["validationRows"]) == ("promptCompletion", 40, 38, 2)
    train = TokenStore.open(work / "prepare" / "data" / "train")
    validation = TokenStore.open(work / "prepare" / "data" / "validation")
    assert (len(train), len(validation)) == (38, 2)
    assert data["trainTokens"] == len(train.tokens)
    assert data["learnedTokens"] == int(np.sum(train.mask))
    assert data["longestRow"] == max(train.lengths)
    report = json.loads((work / "prepare" / "data" / "data_report.json").read_bytes())
    assert (report["rows"], report["trainRows"], report["lengths"]["unit"]) == (40, 38, "tokens")
    assert report["lengths"]["longest"] == max(*train.lengths, *validation.lengths)
    assert [piece["text"] for piece in report["samples"][0]["pieces"] if piece["target"]][1] == "<|im_end|>"
    folder = model_path(WorkFolder(work))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) <= 400
    assert (
        model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    )
    questions = [json.loads(line) for line in (work / "prepare" / "data" / "evaluation.jsonl").read_text().splitlines()]
    assert [question["row"] for question in questions] == [0, 1]
    written = {line["completion"]: line["prompt"] for line in map(json.loads, rows.read_text().splitlines())}
    for question in questions:
        ids, mask = validation[question["row"]]
        assert ids[: len(question["prompt_ids"])].tolist() == question["prompt_ids"]
        assert tokenizer.decode(ids[mask == 1]) == question["reference"] + "<|im_end|>"
        prompt = written[question["reference"]]
        assert question["messages"] == [{"role": "user", "content": prompt}]
        assert rows.read_text().splitlines()[int(question["location"].rsplit(":", 1)[1]) - 1].find(prompt) > 0
        assert tokenizer.decode(question["prompt_ids"]) == (
            f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3"])
def test_scratch_is_the_same_each_time(tmp_path: Path, rows: Path, architecture: str) -> None:
    model = {"scratch": {**SCRATCH["scratch"], "architecture": architecture}}
    trees = []
    for name in ("a", "b"):
        work = write_job(tmp_path / name, rows, model)
        assert prepared(work)["model"]["architecture"] == architecture
        trees.append(result_tree(work / "prepare"))
    assert trees[0] == trees[1]


def test_run_again_does_nothing_and_another_seed_does(tmp_path: Path, rows: Path) -> None:
    work = write_job(tmp_path / "work", rows)
    first = prepared(work)
    times = {path: path.stat().st_mtime_ns for path in (work / "prepare").rglob("*")}
    assert prepared(work) == first
    assert {path: path.stat().st_mtime_ns for path in (work / "prepare").rglob("*")} == times
    write_job(work, rows, training={"maxLength": 128, "seed": 7})
    second = prepared(work)
    assert second["model"]["digest"] != first["model"]["digest"]


def test_folder_is_used_in_place(tmp_path: Path, rows: Path, tiny: Path) -> None:
    before = sha256_tree(tiny)
    work = write_job(tmp_path / "work", rows, {"uri": str(tiny)})
    model = prepared(work)["model"]
    assert (model["path"], model["revision"], model["uri"]) == (str(tiny), None, str(tiny))
    assert model_path(WorkFolder(work)) == tiny
    assert not (work / "prepare" / "model").exists()
    assert sha256_tree(tiny) == before


def test_folder_without_chat_template_is_left_as_it_is(tmp_path: Path, rows: Path, tiny: Path) -> None:
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny, tmp_path / "plain"))
    (folder / "chat_template.jinja").unlink()
    before = sha256_tree(folder)
    work = write_job(tmp_path / "work", rows, {"uri": f"file://{folder}"})
    assert prepared(work)["model"]["path"] == "prepare/model"
    assert sha256_tree(folder) == before
    linked = work / "prepare" / "model"
    assert (linked / "model.safetensors").resolve() == folder / "model.safetensors"
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(linked).chat_template


def test_validation_sources_in_other_kinds_of_file(tmp_path: Path, rows: Path) -> None:
    csv = tmp_path / "validation.csv"
    csv.write_text("prompt,completion\nWhat is 9 plus one?,It is 10.\n")
    config_map = tmp_path / "work" / "config-maps" / "more" / "rows.json"
    config_map.parent.mkdir(parents=True)
    config_map.write_text(json.dumps([{"prompt": "Hi", "completion": "Hello"}]))
    sources = [{"uri": str(csv)}, {"configMapKeyRef": {"name": "more", "key": "rows.json"}}]
    work = write_job(tmp_path / "work", rows, dataset={"validation": {"sources": sources}})
    data = prepared(work)["data"]
    assert (data["trainRows"], data["validationRows"]) == (40, 2)
    assert [source["name"] for source in data["sources"]] == [str(rows), str(csv), "more/rows.json"]
    assert [source["rows"] for source in data["sources"]] == [40, 1, 1]


def test_text_rows_have_no_expected_answer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"Line {n} of the text. " * 40}) + "\n" for n in range(8)))
    data = prepared(write_job(tmp_path / "work", path))["data"]
    assert data["format"] == "text"
    assert data["trainRows"] > 8
    assert data["learnedTokens"] == data["trainTokens"]
    assert data["truncatedRows"] == 8
    folder = tmp_path / "work" / "prepare" / "data"
    lines = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
    assert len(lines) == len({line["text"] for line in lines}), "a text that was cut is there once"
    validation = TokenStore.open(folder / "validation")
    tokenizer = AutoTokenizer.from_pretrained(model_path(WorkFolder(tmp_path / "work")))
    for line in lines:
        assert set(line) == {"row", "location", "text"}
        assert line["text"].startswith(tokenizer.decode(validation[line["row"]][0]))


@pytest.mark.parametrize(
    "name", ["broken-json-in-the-middle.jsonl", "wrong-encoding.jsonl", "truncated.parquet", "open-quote.csv"]
)
def test_bad_data_is_one_line(tmp_path: Path, name: str, refused: Refused) -> None:
    code, outcome = refused(write_job(tmp_path / "work", BAD_DATA / name))
    assert (code, outcome["reason"]) == (11, "InvalidDataset")
    assert outcome["message"].startswith(str(BAD_DATA / name) + ":")
    assert outcome["remedy"]


def test_files_that_are_not_what_was_meant(tmp_path: Path, rows: Path, refused: Refused) -> None:
    work = tmp_path / "work"
    code, outcome = refused(write_job(work, tmp_path / "absent.jsonl"))
    assert (code, outcome["message"]) == (11, f"{tmp_path}/absent.jsonl: no such file")
    (tmp_path / "empty").mkdir()
    code, outcome = refused(write_job(work, tmp_path / "empty"))
    assert "there is no file with rows in this folder" in outcome["message"]
    sources = {"sources": [{"uri": str(rows), "sha256": "0" * 64}]}
    code, outcome = refused(write_job(work, rows, dataset=sources))
    assert f"not {'0' * 64}" in outcome["message"]
    sources = {"sources": [{"configMapKeyRef": {"name": "my-data", "key": "train.jsonl"}}]}
    code, outcome = refused(write_job(work, rows, dataset=sources))
    assert outcome["message"] == "ConfigMap my-data: not found"
    (work / "config-maps" / "my-data").mkdir(parents=True)
    (work / "config-maps" / "my-data" / "other.jsonl").write_text("{}")
    code, outcome = refused(work)
    assert outcome["message"] == "ConfigMap my-data: there is no key train.jsonl (its keys: other.jsonl)"


def test_specifications_that_cannot_work(tmp_path: Path, rows: Path, tiny: Path, refused: Refused) -> None:
    work = tmp_path / "work"
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "one of them"}\n{"text": "two of them"}\n')
    gates = {"gates": [{"metric": "exactMatch", "min": 0.5}]}
    code, outcome = refused(write_job(work, text, evaluation=gates))
    assert (code, "spec.evaluation.gates: exactMatch" in outcome["message"]) == (10, True)
    code, outcome = refused(write_job(work, rows, {"uri": str(tiny)}, training={"maxLength": 1024}))
    assert (code, "takes 512 tokens at most" in outcome["message"]) == (10, True)
    code, outcome = refused(write_job(work, rows, training={"maxLength": 8}))
    assert (code, "longer than 8 tokens and were skipped" in outcome["message"]) == (11, True)
    single = tmp_path / "single.jsonl"
    single.write_text('{"prompt": "a", "completion": "b"}\n')
    code, outcome = refused(write_job(work, single))
    assert (code, "single row" in outcome["message"]) == (11, True)


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


BROKEN_MODELS = {
    "no config": (lambda m: (m / "config.json").unlink(), "config.json is missing"),
    "broken config": (lambda m: (m / "config.json").write_text("{"), "config.json is broken"),
    "own code": (lambda m: edit_json(m / "config.json", auto_map={"AutoModel": "x.X"}), "auto_map"),
    "own tokenizer code": (lambda m: edit_json(m / "tokenizer_config.json", auto_map={"A": "x.X"}), "auto_map"),
    "quantised": (lambda m: edit_json(m / "config.json", quantization_config={"bits": 4}), "quantised"),
    "architecture": (lambda m: edit_json(m / "config.json", architectures=["BertModel"]), "BertModel is not supported"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors is missing"),
    "pickled": (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"), "pickled (pytorch_model.bin)"),
    "cut weights": (
        lambda m: (m / "model.safetensors").write_bytes((m / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors is broken",
    ),
    "missing shard": (
        lambda m: (m / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        "model-1.safetensors is missing",
    ),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "broken tokenizer": (lambda m: (m / "tokenizer.json").write_text("{}"), "the tokenizer cannot be loaded"),
    "small embedding": (lambda m: edit_json(m / "config.json", vocab_size=10), "10 rows"),
}


@pytest.mark.parametrize("name", sorted(BROKEN_MODELS))
def test_broken_model(tmp_path: Path, tiny: Path, name: str) -> None:
    from tunesmith_api.failures import Reason, StageError
    from tunesmith_api.spec import JobConfig
    from tunesmith_trainer.models.base import obtain_model

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    damage, problem = BROKEN_MODELS[name]
    damage(folder)
    work = write_job(tmp_path / "work", "rows.jsonl", {"uri": str(folder)})
    config = JobConfig.model_validate_json((work / "config.json").read_bytes())
    with pytest.raises(StageError) as caught:
        obtain_model(config, WorkFolder(work), list, chat=True, architectures=EXPORTABLE)
    assert caught.value.reason is Reason.INVALID_MODEL
    assert caught.value.message.startswith(f"{folder}: ")
    assert problem in caught.value.message
    assert caught.value.remedy


def test_a_folded_system_turn_is_part_of_the_prepared_model(tmp_path: Path, tiny: Path) -> None:
    from transformers import AutoTokenizer

    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    tokenizer.save_pretrained(model)
    before = sha256_tree(model)
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rows = [{"messages": [*talk, {"role": "assistant", "content": f"Hello {n}"}]} for n in range(10)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = write_job(tmp_path / "work", data, {"uri": str(model)})
    assert main(["prepare", "--work", str(work)]) == 11
    assert "systemTurn: fold" in read_outcome(work)["remedy"]
    dataset = {"sources": [{"uri": str(data)}], "systemTurn": "fold"}
    work = write_job(tmp_path / "work", data, {"uri": str(model)}, dataset=dataset)
    assert prepared(work)["model"]["path"] == "prepare/model"
    assert sha256_tree(model) == before
    folded = AutoTokenizer.from_pretrained(model_path(WorkFolder(work)))
    ids, _ = TokenStore.open(work / "prepare" / "data" / "train")[0]
    assert folded.decode(ids).startswith("<|im_start|>user\nBe kind.\n\nHi<|im_end|>")


def test_rows_with_tools_are_rendered_by_the_template_for_tools(tmp_path: Path, tiny: Path) -> None:
    from transformers import AutoTokenizer

    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tools = "{% if tools %}<tools>{% for tool in tools %}{{ tool.function.name }} {% endfor %}</tools>{% endif %}"
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": tools + tokenizer.chat_template}
    (model / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(model, save_jinja_files=False)  # as older versions of transformers do
    before = sha256_tree(model)
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    rows = [{"messages": talk, "tools": [tool]} if number % 2 else {"messages": talk} for number in range(10)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = write_job(tmp_path / "work", data, {"uri": str(model)})
    assert prepared(work)["model"]["path"] == "prepare/model"
    assert sha256_tree(model) == before
    settled = AutoTokenizer.from_pretrained(model_path(WorkFolder(work)))
    train = TokenStore.open(work / "prepare" / "data" / "train")
    texts = {settled.decode(train[index][0]).split("<|im_start|>")[0] for index in range(len(train))}
    assert texts == {"", "<tools>add </tools>"}
    tokenizer.chat_template = {"tool_use": tools}
    tokenizer.save_pretrained(model, save_jinja_files=False)
    assert main(["prepare", "--work", str(write_job(tmp_path / "other", data, {"uri": str(model)}))]) == 13
    assert "none is the default" in read_outcome(tmp_path / "other")["message"]
