import hashlib
import json
from pathlib import Path

import pytest

from tunesmith_api.artifact import artifact_digest
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.publish.artifact import assemble, describe

JOB = JobConfig.model_validate(
    {
        "name": "job",
        "namespace": "team",
        "spec": {
            "model": {"uri": "hf://org/name"},
            "dataset": {"sources": [{"uri": "./x.jsonl"}]},
            "export": {"precisions": ["int4", "fp32"]},
        },
    }
)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "export" / "sub").mkdir(parents=True)
    (tmp_path / "export" / "model.onnx").write_bytes(b"graph")
    (tmp_path / "export" / "sub" / "data").write_bytes(b"weights")
    (tmp_path / "evaluation.json").write_bytes(b"{}")
    (tmp_path / "evaluation.json").chmod(0o600)
    return {"onnx/fp32": tmp_path / "export", "evaluation.json": tmp_path / "evaluation.json"}


def test_the_manifest_names_every_file_with_its_digest(tmp_path: Path, parts: dict[str, Path]) -> None:
    manifest = assemble(tmp_path / "artifact", parts, {"formatVersion": 1})
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_text()) == manifest
    assert list(manifest["files"]) == ["evaluation.json", "onnx/fp32/model.onnx", "onnx/fp32/sub/data"]
    for name, entry in manifest["files"].items():
        data = (tmp_path / "artifact" / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert manifest["digest"] == artifact_digest(manifest["files"])


def test_others_may_read_it_and_nothing_is_stored_twice(tmp_path: Path, parts: dict[str, Path]) -> None:
    assemble(tmp_path / "artifact", parts, {})
    assert (tmp_path / "artifact" / "evaluation.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "artifact" / "onnx/fp32/model.onnx").samefile(tmp_path / "export" / "model.onnx")


def test_what_an_interrupted_call_left_is_replaced(tmp_path: Path, parts: dict[str, Path]) -> None:
    (tmp_path / "artifact" / "onnx").mkdir(parents=True)
    (tmp_path / "artifact" / "onnx" / "stray").write_bytes(b"half")
    first = assemble(tmp_path / "artifact", parts, {})
    assert not (tmp_path / "artifact" / "onnx" / "stray").exists()
    assert assemble(tmp_path / "artifact", parts, {})["digest"] == first["digest"]


def test_the_digest_depends_on_names_and_contents_only() -> None:
    files = {"a": {"sha256": "1", "size": 3}, "b": {"sha256": "2", "size": 3}}
    digest = artifact_digest(files)
    assert digest.startswith("sha256:")
    assert artifact_digest(dict(reversed(files.items()))) == digest
    assert artifact_digest({**files, "b": {"sha256": "3", "size": 3}}) != digest
    assert artifact_digest({"a": files["a"], "c": files["b"]}) != digest


def test_the_manifest_tells_where_the_model_comes_from() -> None:
    prepared = {
        "inputs": "i",
        "model": {"uri": "hf://org/name", "revision": "abc", "digest": "d", "path": "prepare/model"},
        "data": {"digest": "e", "rows": 7},
    }
    trained = {"inputs": "j", "steps": 3, "resolved": {"precision": "fp32"}, "versions": {"deepspeed": "1"}}
    results = {"metrics": {"before": {}, "after": {}}, "gates": [], "parity": {}}
    manifest = describe(JOB, prepared, trained, {"seconds": 2.0}, results)
    assert (manifest["name"], manifest["namespace"], manifest["method"]) == ("job", "team", "lora")
    assert manifest["baseModel"] == {"uri": "hf://org/name", "revision": "abc", "digest": "d", "architecture": None}
    assert manifest["data"] == {"digest": "e", "rows": 7}
    assert manifest["training"] == {"seconds": 2.0, "steps": 3}
    assert manifest["resolved"] == {"precision": "fp32"}
    assert manifest["config"] == JOB.spec.to_api()
    assert manifest["precisions"] == ["fp32", "int4"]
    assert manifest["versions"]["deepspeed"] == "1"
    assert {"tunesmith", "torch", "onnxruntime-genai"} <= set(manifest["versions"])
