"""What is not whole is not served, and the message says what to do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_models import copy_artifact, write_manifest
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.runtime.errors import ArtifactError


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    return copy_artifact(artifact, tmp_path / "artifact")


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_opens_what_is_whole(artifact: Path) -> None:
    opened = open_artifact(artifact, "int4")
    assert opened.name == "tiny"
    assert opened.onnx == artifact / "onnx" / "int4"
    assert {"model.onnx", "tokenizer.json", "chat_template.jinja"} <= opened.files


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"])
def test_flipped_byte(copied: Path, name: str) -> None:
    flip_byte(copied / "onnx" / "fp32" / name)
    with pytest.raises(ArtifactError, match=rf"onnx/fp32/{name} is damaged"):
        open_artifact(copied, "fp32")
    open_artifact(copied, "int4")  # the other precision is whole


def test_missing_manifest(copied: Path) -> None:
    (copied / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="has no manifest.json"):
        open_artifact(copied, "fp32")


def test_missing_file(copied: Path) -> None:
    (copied / "onnx" / "fp32" / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"model.onnx.data is missing"):
        open_artifact(copied, "fp32")


def test_cut_file(copied: Path) -> None:
    path = copied / "onnx" / "fp32" / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"model.onnx.data has \d+ bytes"):
        open_artifact(copied, "fp32")


def test_other_precision(copied: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no precision int8 \(it has fp32, int4\)"):
        open_artifact(copied, "int8")


def test_nothing_exported(copied: Path) -> None:
    shutil.rmtree(copied / "onnx")
    write_manifest(copied)
    with pytest.raises(ArtifactError, match=r"holds no ONNX model \(its job has export.precisions: \[\]\)"):
        open_artifact(copied, "fp32")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_artifact(tmp_path / "nothing", "fp32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formatVersion": 2}, "formatVersion 2"),
        ({"files": []}, "not a manifest"),
        ({"files": {"onnx/fp32/../../../etc/passwd": {"sha256": "0"}}}, "leaves the folder"),
        ({"files": {"onnx/fp32/model.onnx": {}}}, "gives no sha256"),
    ],
)
def test_bad_manifest(copied: Path, change: dict[str, object], message: str) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]  # It would speak of the change first.
    path.write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ArtifactError, match=message):
        open_artifact(copied, "fp32")


def test_manifest_that_is_not_json(copied: Path) -> None:
    (copied / "manifest.json").write_text('{"formatVersion": 1,')
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_artifact(copied, "fp32")


@pytest.mark.parametrize("task", ["imageClassification", 5])
def test_a_task_without_an_engine(copied: Path, task: object) -> None:
    write_manifest(copied, task=task)
    code, stderr = run("--artifact", str(copied), "--precision", "fp32", "--port", "0")
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert f"holds a model for the task '{task}'; this server serves questionAnswering, sequenceClassif" in stderr


def test_a_manifest_that_names_the_task(copied: Path) -> None:
    assert open_artifact(copied, "fp32").task == "textGeneration"
    write_manifest(copied, task="textGeneration")
    assert open_artifact(copied, "fp32").task == "textGeneration"


def test_files_outside_the_manifest_are_not_read(copied: Path) -> None:
    (copied / "onnx" / "fp32" / "chat_template.jinja").unlink()
    write_manifest(copied)
    (copied / "onnx" / "fp32" / "chat_template.jinja").write_text("{{ unverified }}")
    assert open_artifact(copied, "fp32").read_text("chat_template.jinja") is None


def digest_of(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text())["digest"])


def test_the_expected_artifact(copied: Path) -> None:
    open_artifact(copied, "fp32", digest_of(copied))


def test_another_artifact_than_the_expected(copied: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not the artifact that was asked for: it has digest sha256:\w{10}"):
        open_artifact(copied, "fp32", "sha256:" + "0" * 64)


def test_a_swapped_artifact(copied: Path) -> None:
    """Whole in itself, with all digests right, but another one."""
    expected = digest_of(copied)
    flip_byte(copied / "onnx" / "fp32" / "model.onnx.data")
    write_manifest(copied)
    open_artifact(copied, "fp32")
    with pytest.raises(ArtifactError, match="is not the artifact that was asked for"):
        open_artifact(copied, "fp32", expected)


def test_a_manifest_that_claims_the_digest_of_another(copied: Path) -> None:
    expected, path = digest_of(copied), copied / "manifest.json"
    flip_byte(copied / "onnx" / "fp32" / "model.onnx.data")
    write_manifest(copied)
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": expected}))
    for expect in ("", expected):
        with pytest.raises(ArtifactError, match="its digest is not that of the files it lists"):
            open_artifact(copied, "fp32", expect)


def test_a_manifest_without_digest(copied: Path) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    expected = manifest.pop("digest")
    path.write_text(json.dumps(manifest))
    open_artifact(copied, "fp32")
    with pytest.raises(ArtifactError, match="it has no digest, not sha256:"):
        open_artifact(copied, "fp32", expected)


def run(*options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith_serving", *options], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: flip_byte(folder / "onnx" / "fp32" / "model.onnx"), "model.onnx is damaged"),
        (lambda folder: _rewrite(folder, "model.onnx", b"not onnx"), "does not load"),
        (lambda folder: _rewrite(folder, "tokenizer.json", b"{}"), "tokenizer.json cannot be loaded"),
        (lambda folder: _rewrite(folder, "genai_config.json", b"{}"), "lacks a usable 'model'"),
        (lambda folder: _rewrite(folder, "chat_template.jinja", b"{% if %}"), "chat template, line 1"),
    ],
)
def test_command_line_says_it_in_one_line(copied: Path, damage: object, message: str) -> None:
    damage(copied)  # type: ignore[operator]
    code, stderr = run("--artifact", str(copied), "--precision", "fp32", "--port", "0")
    assert code == 2
    assert message in stderr
    assert len(stderr.splitlines()) == 1, stderr


def _rewrite(folder: Path, name: str, data: bytes) -> None:
    (folder / "onnx" / "fp32" / name).write_bytes(data)
    write_manifest(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slots", "0"], "--slots: Input should be greater than or equal to 1"),
        (["--slots", "many"], "invalid int value: 'many'"),
        (["--precision", "fp8"], "--precision: Input should be 'int4', 'int8', 'fp16', 'bf16' or 'fp32'"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
        (["--expect-digest", "sha256:0"], "--expect-digest: String should match pattern"),
        (["--expect-digest", "sha256:" + "0" * 64, "--precision", "fp32"], "is not the artifact that was asked for"),
    ],
)
def test_bad_options(artifact: Path, options: list[str], message: str) -> None:
    code, stderr = run("--artifact", str(artifact), "--port", "0", *options)
    assert code == 2
    assert message in stderr
    assert len(stderr.splitlines()) == 1, stderr
