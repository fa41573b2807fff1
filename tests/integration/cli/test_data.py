"""`tunesmith data` and the check of rows in `tunesmith validate`, as people call them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.manifests import config_map, job
from support.tiny_models import build_model


def tunesmith(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith_cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = [{"prompt": f"What is {n % 9}?", "completion": f"It is {n % 9}.", "id": n} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "rows.jsonl"


def manifest(folder: Path, uri: object) -> Path:
    spec = job(dataset={"sources": [{"uri": str(uri)}]})
    (folder / "job.yaml").write_text(yaml.safe_dump(spec))
    return folder / "job.yaml"


def test_report_on_a_file(tmp_path: Path, rows: Path) -> None:
    result = tunesmith("data", "rows.jsonl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    words = " ".join(result.stdout.split())
    for text in (
        "promptCompletion (the first row has the columns prompt and completion)",
        "not used id",
        "12: 11 to train on, 1 to validate",
        "duplicates 3 rows.jsonl:10, compare rows.jsonl:1",
        "lengths in characters",
        "assistant: It is 0.",
    ):
        assert text in words


def test_report_in_tokens_of_a_model(tmp_path: Path, rows: Path) -> None:
    build_model(tmp_path / "tiny")
    result = tunesmith("data", rows, "--model", "tiny", "--max-length", 64, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["lengths"]["unit"], report["lengths"]["limit"]) == ("tokens", 64)
    targets = [piece["text"] for piece in report["samples"][0]["pieces"] if piece["target"]]
    assert targets == ["It is 0.", "<|im_end|>"]
    printed = tunesmith("data", rows, "--model", "tiny", cwd=tmp_path).stdout
    assert "<|im_start|>user↵" in printed


def test_report_on_a_manifest_with_a_config_map(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([job(), config_map()]))
    result = tunesmith("data", "all.yaml", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"] > 0


def test_bad_rows_are_one_line(tmp_path: Path, rows: Path) -> None:
    rows.write_text('{"question": "a", "answer": "b"}\n' * 4)
    for command in (["data", rows], ["validate", "-f", manifest(tmp_path, "./rows.jsonl")]):
        result = tunesmith(*command, cwd=tmp_path)
        assert result.returncode == 2
        [line] = result.stderr.splitlines()
        assert line.startswith(f"error {rows}:1: the format is not recognised")
        assert "columns: {prompt: question, completion: answer}" in line
    columns = ["--column", "prompt=question", "--column", "completion=answer"]
    assert tunesmith("data", rows, *columns, cwd=tmp_path).returncode == 0


def test_validate_reads_rows_unless_told_otherwise(tmp_path: Path, rows: Path) -> None:
    path = manifest(tmp_path, "./rows.jsonl")
    assert tunesmith("validate", "-f", path, cwd=tmp_path).returncode == 0
    with rows.open("a") as file:
        file.write('{"prompt": "a", "completion": null}\n')
    result = tunesmith("validate", "-f", path, cwd=tmp_path)
    assert result.returncode == 2
    assert f"{rows}:13: completion is null" in result.stderr
    assert tunesmith("validate", "-f", path, "--no-data", cwd=tmp_path).returncode == 0


def test_validate_and_files_that_are_not_here(tmp_path: Path) -> None:
    result = tunesmith("validate", "-f", manifest(tmp_path, "./absent.jsonl"), cwd=tmp_path)
    assert result.returncode == 2
    assert "absent.jsonl: no such file" in result.stderr
    result = tunesmith("validate", "-f", manifest(tmp_path, "/volume/absent.jsonl"), cwd=tmp_path)
    assert result.returncode == 0
    assert "/volume/absent.jsonl is not on this machine" in result.stderr
    assert tunesmith("validate", "-f", manifest(tmp_path, "s3://bucket/rows.jsonl"), cwd=tmp_path).returncode == 0


def test_wrong_options(tmp_path: Path, rows: Path) -> None:
    for options in (["--column", "prompt"], ["--format", "csv"]):
        result = tunesmith("data", rows, *options, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("Traceback")) == (2, 0)
        assert result.stderr.startswith("error ")


def test_labels_are_counted_and_checked(tmp_path: Path) -> None:
    lines = [{"review": f"It is {n}.", "label": "good" if n % 3 else "Bad"} for n in range(12)]
    write = (tmp_path / "rows.jsonl").write_text
    write("".join(json.dumps(line) + "\n" for line in [*lines, {"review": "So so.", "label": "bad"}]))
    task = ("--task", "sequenceClassification")
    refused = tunesmith("data", "rows.jsonl", *task, cwd=tmp_path)
    assert refused.returncode == 2
    assert "columns: {text: review}" in refused.stderr
    result = tunesmith("data", "rows.jsonl", *task, "--column", "text=review", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    words = " ".join(result.stdout.split())
    for text in (
        "textLabel (the first row has the columns review and label)",
        "labels single_label_classification, 3 labels 8 good 4 Bad 1 bad",
        "nearly equal labels 'Bad', 'bad'",
        "It is 0. → Bad",
    ):
        assert text in words
    columns = {"sources": [{"uri": "./rows.jsonl"}], "columns": {"text": "review"}}
    spec = job(dataset=columns, task="sequenceClassification", evaluation={"gates": [{"metric": "mse", "max": 1}]})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    wrong = tunesmith("validate", "-f", "job.yaml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "mse is no metric of these rows, whose labels are classes" in " ".join(wrong.stderr.split())
