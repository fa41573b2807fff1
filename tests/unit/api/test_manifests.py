"""What manifests are made of, and what is read of them."""

import base64
import io
import json
from pathlib import Path

import pytest

from support.manifests import config_map, job
from tunesmith_api.manifests import Document, Manifests, load_documents, load_manifests

JOB = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: my-job}
spec:
  model: {uri: hf://organisation/name}
  dataset:
    sources:
      - uri: ./data.jsonl
"""
WORKSPACE = """\
apiVersion: tunesmith.dev/v1alpha1
kind: InferenceWorkspace
metadata: {name: my-model}
spec:
  model: {fineTuneJob: my-job}
"""


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def valid(*paths: Path):
    manifests = load_manifests(paths)
    assert manifests.findings == []
    return manifests


def lines(manifests) -> list[str]:
    return [str(finding) for finding in manifests.findings]


def test_a_folder_of_both_kinds_and_a_config_map(tmp_path):
    write(tmp_path, "a.yaml", JOB.replace("uri: ./data.jsonl", "configMapKeyRef: {name: my-data, key: train.jsonl}"))
    write(tmp_path, "b.yml", "# a comment\n---\n" + WORKSPACE)
    write(
        tmp_path,
        "c.json",
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "my-data"},
                "data": {"train.jsonl": '{"text": "naïve 😀"}\n'},
                "binaryData": {"x.parquet": base64.b64encode(b"\x00\xff").decode()},
            }
        ),
    )
    write(tmp_path, "ignored.txt", "no manifest")
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner", "broken.yaml", "{")
    manifests = valid(tmp_path)
    assert [(job.metadata.name, job.source.file, job.source.line) for job in manifests.fine_tune_jobs] == [
        ("my-job", tmp_path / "a.yaml", 1)
    ]
    (workspace,) = manifests.inference_workspaces
    assert (workspace.kind, workspace.spec.replicas, workspace.spec.runtime.precision) == (
        "InferenceWorkspace",
        1,
        None,
    )
    assert workspace.source.line == 3
    assert manifests.config_maps == {
        ("default", "my-data"): {"train.jsonl": '{"text": "naïve 😀"}\n'.encode(), "x.parquet": b"\x00\xff"}
    }
    assert manifests.notes == []


def test_a_config_map_is_looked_for_in_the_namespace_of_the_job(tmp_path):
    job = JOB.replace("uri: ./data.jsonl", "configMapKeyRef: {name: my-data, key: a.jsonl}")
    data = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: my-data, namespace: team}\ndata: {a.jsonl: text}\n"
    path = write(tmp_path, "a.yaml", f"{job}---\n{data}")
    assert lines(load_manifests([path])) == [
        f"{path}:8: spec.dataset.sources[0].configMapKeyRef.name: there is no ConfigMap my-data in namespace default "
        "among these files; add its manifest to the folder"
    ]
    job = job.replace("name: my-job", "name: my-job, namespace: team")
    assert ("team", "my-data") in valid(write(tmp_path, "a.yaml", f"{job}---\n{data}")).config_maps


def test_validation_sources_are_looked_for_too(tmp_path):
    path = write(
        tmp_path,
        "a.yaml",
        JOB
        + "    validation:\n      sources:\n        - configMapKeyRef:\n            name: our\n            key: rows\n",
    )
    (finding,) = load_manifests([path]).findings
    assert (finding.line, finding.field) == (12, "spec.dataset.validation.sources[0].configMapKeyRef.name")


def test_lists_are_unpacked(tmp_path):
    job, workspace = ("\n".join("    " + line for line in text.splitlines()) for text in (JOB, WORKSPACE))
    text = f"apiVersion: v1\nkind: List\nitems:\n  -\n{job}\n  -\n{workspace}\n"
    manifests = valid(write(tmp_path, "a.yaml", text))
    assert [item.source.line for item in (*manifests.fine_tune_jobs, *manifests.inference_workspaces)] == [5, 14]


def test_other_kinds_are_left_alone_and_said_so(tmp_path):
    path = write(tmp_path, "a.yaml", f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: team}}\n---\n{JOB}")
    manifests = valid(path)
    assert [str(note) for note in manifests.notes] == [f"{path}:1: left alone (kind Namespace)"]
    assert len(manifests.fine_tune_jobs) == 1


def test_a_job_that_is_not_among_the_files_is_a_note(tmp_path):
    path = write(tmp_path, "a.yaml", WORKSPACE)
    assert [str(note) for note in valid(path).notes] == [
        f"{path}:5: spec.model.fineTuneJob: my-job is not among these files; it must have been run before"
    ]
    # One that is among them but invalid has a finding already.
    broken = write(tmp_path, "b.yaml", JOB.replace("organisation/name", "name"))
    manifests = load_manifests([path, broken])
    assert (len(manifests.findings), manifests.notes) == (1, [])


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t + "...\n"])
def test_byte_order_marks_and_carriage_returns_are_read(tmp_path, change):
    manifests = valid(write(tmp_path, "a.yaml", change(JOB)))
    assert manifests.fine_tune_jobs[0].spec.model.uri == "hf://organisation/name"


def test_anchors_and_merge_keys_are_read(tmp_path):
    text = JOB + "  training: &t {epochs: 2, seed: 7}\n"
    text += "---\n" + JOB.replace("my-job", "other") + "  training: {<<: {epochs: 2, seed: 7}, seed: 8}\n"
    first, second = valid(write(tmp_path, "a.yaml", text)).fine_tune_jobs
    assert (first.spec.training.epochs, first.spec.training.seed) == (2, 7)
    assert (second.spec.training.epochs, second.spec.training.seed) == (2, 8)


def test_a_quoted_merge_key_is_a_field(tmp_path):
    text = json.dumps({"<<": {"replicas": 2}})[1:-1]
    path = write(tmp_path, "a.yaml", WORKSPACE.replace("spec:\n", f"spec:\n  {text}\n"))
    (finding,) = load_manifests([path]).findings
    assert (finding.line, finding.field) == (5, "spec.<<")


def test_numbers_are_read_as_kubectl_reads_them(tmp_path):
    text = JOB + "  training: {maxSteps: 1_000, learningRate: 2e-4, seed: 0x10, globalBatchSize: 32.0}\n"
    training = valid(write(tmp_path, "a.yaml", text)).fine_tune_jobs[0].spec.training
    assert (training.max_steps, training.learning_rate, training.seed) == (1000, 2e-4, 16)
    assert training.global_batch_size == 32


def test_what_yaml_takes_for_something_else_is_shown_as_it_is_written(tmp_path):
    path = write(tmp_path, "a.yaml", JOB.replace("organisation/name}", "organisation/name, revision: 1e3}"))
    assert lines(load_manifests([path])) == [
        f'{path}:5: spec.model.revision: must be a text, not 1000; write it in quotes: revision: "1e3"'
    ]


def test_text_is_not_expanded(tmp_path):
    text = JOB.replace("./data.jsonl", "./${HOME}/$(whoami).jsonl")
    job = valid(write(tmp_path, "a.yaml", text)).fine_tune_jobs[0]
    assert job.spec.dataset.sources[0].uri == "./${HOME}/$(whoami).jsonl"


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    path = write(tmp_path, "a.yaml", JOB)
    assert len(valid(path, tmp_path, path).fine_tune_jobs) == 1


def test_the_same_object_in_two_files_is_a_finding(tmp_path):
    first, second = write(tmp_path, "a.yaml", JOB), write(tmp_path, "b.yaml", "\n" + JOB)
    assert lines(load_manifests([tmp_path])) == [
        f"{second}:4: metadata.name: there is a FineTuneJob my-job already, on {first}:1; "
        "remove one, or write another name"
    ]


def test_every_finding_of_an_object_is_given(tmp_path):
    text = JOB + "  training: {epochs: 0, sed: 1}\n  method: lroa\n"
    manifests = load_manifests([write(tmp_path, "a.yaml", text)])
    assert sorted(finding.field for finding in manifests.findings) == [
        "spec.method",
        "spec.training.epochs",
        "spec.training.sed",
    ]
    assert manifests.fine_tune_jobs == []


def test_documents_before_a_broken_one_are_still_there(tmp_path):
    manifests = load_manifests([write(tmp_path, "a.yaml", f"{JOB}---\nkind: [\n")])
    assert len(manifests.fine_tune_jobs) == 1
    assert len(manifests.findings) == 1


def test_paths_that_hold_nothing(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = tmp_path / "missing.yaml"
    assert lines(load_manifests([missing, empty, Path("x\0y")])) == [
        f"{missing}: there is no such file or folder; correct the path",
        f"{empty}: the folder holds no *.yaml, *.yml or *.json file; name another folder",
        "x\0y: there is no such file or folder; correct the path",
    ]


def test_a_path_that_cannot_be_read():
    path = Path("x" * 300)
    assert lines(load_manifests([path])) == [
        f"{path}: cannot be read (File name too long); correct the path or its rights"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is nested deeper than 64 levels"),
        ("a: " + "{b: " * 100_000, "is nested deeper than 64 levels"),
        ("a: &a [*a]", "the alias *a names nothing before it"),
        ("a: *nothing", "the alias *nothing names nothing before it"),
        ("<<: [1]\n", "merges a number by <<"),
        ("? [a]\n: b\n", "has a list where a field's name must be"),
        ("a: !!python/object/apply:os.system [ls]\n", "has the YAML tag"),
        ("a: \x1b[31m\n", "holds the control character '\\x1b'"),
        (b"a: 1\nb: \0", "is a binary file"),
        (b"#" * (17 << 20), "is 17 MiB, more than any manifest"),
        (
            "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {x: " + "y" * (1 << 20) + "z}",
            "more than the 1",
        ),
        ("kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {..: b}", "'..' is not a key"),
        ("kind: ConfigMap\napiVersion: v1\nmetadata: {name: ../a}\ndata: {a: b}", "must be lower-case letters"),
        ("kind: List\nitems: 3\n", "must be a list"),
        ("kind: 3\n", "must be a text, not 3"),
        ("kind: Secret\n", "is missing"),
    ],
    ids=lambda value: value[:12].decode(errors="replace") if isinstance(value, bytes) else value[:20],
)
def test_hostile_text_is_one_finding(tmp_path, text, message):
    (finding,) = load_manifests([write(tmp_path, "a.yaml", text)]).findings
    assert message in finding.message
    assert len(str(finding)) < 500


def test_documents_are_read_as_files_are(tmp_path):
    text = "apiVersion: tunesmith.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: a}\nspec: {modle: 1}\n"
    path = tmp_path / "job.yaml"
    path.write_text(text)
    from_text = load_documents([Document(path, text)])
    assert from_text == load_manifests([path])
    assert [finding.file for finding in from_text.findings if finding.line] != []


def test_findings_are_in_the_order_of_the_files(tmp_path):
    write(tmp_path, "a.yaml", "kind: [")
    write(tmp_path, "b.yaml", b"\xff\xfe")
    write(tmp_path, "c.yaml", "kind: [")
    assert [finding.file.name for finding in load_manifests([tmp_path]).findings] == ["a.yaml", "b.yaml", "c.yaml"]


def test_text_may_be_no_larger_than_a_file_and_may_begin_with_a_byte_order_mark():
    large = load_documents([Document(Path("request"), "# " + "x" * (16 << 20))])
    assert lines(large) == ["request: is 16 MiB, more than any manifest; keep large data in files of their own"]
    assert load_documents([Document(Path("request"), "\ufeff" + JOB)]).findings == []


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(data: bytes, *files: Path) -> Manifests:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        return load_manifests([Path("-"), *files])

    (tmp_path / "map.yaml").write_text(json.dumps(config_map()))
    loaded = read(json.dumps(job()).encode(), tmp_path / "map.yaml")
    assert loaded.findings == []
    assert loaded.fine_tune_jobs[0].source.file == Path("stdin")
    assert str(read(b"a: [").findings[0]).startswith("stdin:1: ")
    assert "UTF-8" in str(read(b"a: \xff").findings[0])
