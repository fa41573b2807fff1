"""One process at a time writes a base, and an adapter names where it is."""

import json
import threading
from pathlib import Path

import pytest

from tunesmith_api.artifact import LORA_BASE, artifact_digest
from tunesmith_trainer.publish.lora.base_artifact import obtain_base
from tunesmith_trainer.storage.claims import claimed, claims_of
from tunesmith_trainer.storage.files import sha256_tree
from tunesmith_trainer.storage.lora_base import NOT_YET, BaseIdentity, absolute_uri, relative_uri

BASE = BaseIdentity("sha256:model", None, None, ("fp32",))


def test_one_of_two_processes_has_the_claim(tmp_path: Path) -> None:
    uri, running, order = str(tmp_path / "base"), [0], list[str]()
    done = threading.Event()

    def work(owner: str) -> None:
        with claimed(uri, owner, done.is_set) as mine:
            order.append(f"{owner} {mine}")
            if mine:
                running[0] += 1
                assert running[0] == 1
                done.wait(0.2)
                running[0] -= 1
                done.set()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert sorted(line.split()[1] for line in order) == ["False", "False", "True"]
    assert not Path(claims_of(uri)).exists()


def test_the_claim_of_a_dead_process_ends(tmp_path: Path) -> None:
    uri = str(tmp_path / "base")
    Path(claims_of(uri)).mkdir()
    (Path(claims_of(uri)) / "dead").write_bytes(b"once")
    with claimed(uri, "alive", lambda: False, stale=0.2) as mine:
        assert mine
        assert not (Path(claims_of(uri)) / "dead").exists()


def test_a_process_that_runs_again_need_not_wait_for_itself(tmp_path: Path) -> None:
    uri = str(tmp_path / "base")
    Path(claims_of(uri)).mkdir()
    (Path(claims_of(uri)) / "me").write_bytes(b"before")
    with claimed(uri, "me", lambda: False) as mine:
        assert mine


def test_of_several_jobs_one_makes_the_base(tmp_path: Path) -> None:
    uri, made, found = str(tmp_path / "out" / "base"), list[str](), list[Path]()

    def obtain(name: str) -> None:
        def make() -> Path:
            made.append(name)
            folder = tmp_path / name / "artifact"
            (folder / "onnx" / "fp32").mkdir(parents=True)
            (folder / "onnx" / "fp32" / "model.onnx").write_text("graph")
            files = sha256_tree(folder)
            manifest = {
                "kind": LORA_BASE,
                "baseModel": {"digest": BASE.model},
                "precisions": ["fp32"],
                "files": files,
                "digest": artifact_digest(files),
            }
            (folder / "manifest.json").write_text(json.dumps(manifest))
            return folder

        folder, manifest = obtain_base(uri, BASE, tmp_path / name, make, lambda step: None)
        assert manifest["kind"] == LORA_BASE
        found.append(folder / "onnx" / "fp32" / "model.onnx")

    threads = [threading.Thread(target=obtain, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(made) == 1
    assert [path.read_text() for path in found] == ["graph"] * 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"precisions": ["fp32", "int4"]}, None),
        ({"kind": "adapter"}, "is no base model for adapters"),
        ({"baseModel": {"digest": "sha256:other"}}, "is of another base model"),
        ({"quantization": "sha256:nf4"}, "has base weights of another method"),
        ({"chatTemplate": "sha256:template"}, "has another chat template"),
        ({"precisions": ["int4"]}, "holds no fp32"),
    ],
)
def test_another_base_is_told_apart(change: dict[str, object], problem: str | None) -> None:
    manifest = {"kind": LORA_BASE, "baseModel": {"digest": BASE.model}, "precisions": ["fp32"], **change}
    found = BASE.problem(manifest)
    assert found == problem if problem is None else problem in (found or "")


def test_before_training_any_quantized_weights_fit_a_job_that_quantizes() -> None:
    early = BaseIdentity(BASE.model, NOT_YET, None, ("fp32",))
    manifest = {"kind": LORA_BASE, "baseModel": {"digest": BASE.model}, "precisions": ["fp32"]}
    assert early.problem({**manifest, "quantization": "sha256:nf4"}) is None
    assert early.problem(manifest) is not None


def test_jobs_share_a_folder_by_what_they_have_in_common() -> None:
    assert BASE.folder_name == BaseIdentity("sha256:model", None, None, ("fp32",)).folder_name
    others = [
        BaseIdentity("sha256:other", None, None, ("fp32",)),
        BaseIdentity("sha256:model", "sha256:nf4", None, ("fp32",)),
        BaseIdentity("sha256:model", None, "sha256:template", ("fp32",)),
        BaseIdentity("sha256:model", None, None, ("fp32", "int4")),
    ]
    assert len({BASE.folder_name, *(other.folder_name for other in others)}) == 5


@pytest.mark.parametrize(
    ("base", "output", "place"),
    [
        ("/a/out/base", "/a/out/job", "../base"),
        ("/b/base", "/a/out/job", "../../../b/base"),
        ("s3://bucket/models/base", "s3://bucket/models/job/", "../base"),
        ("s3://other/base", "s3://bucket/models/job", "s3://other/base"),
        ("abfs://bucket@account/base", "/a/job", "abfs://bucket@account/base"),
    ],
)
def test_a_base_is_named_relative_to_the_adapter_where_both_move_together(base: str, output: str, place: str) -> None:
    assert relative_uri(base, output) == place
    assert absolute_uri(place, output) == base
