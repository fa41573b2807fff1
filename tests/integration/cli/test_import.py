"""Jobs and rows of OpenAI's become manifests: from exported files, and from a service that speaks its API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import update

from support.cli import condition, status, tunesmith
from support.flaky_chat import FlakyChat
from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines
from support.hosted_models import add_model
from support.hosted_served import serving_base
from support.tiny_models import build_model
from tunesmith_api.manifests import Manifests, load_manifests
from tunesmith_hosted.database.tables import Job

JOB: dict[str, Any] = {
    "object": "fine_tuning.job",
    "id": "ftjob-abcdefgh12345678",
    "model": "gpt-4o-mini-2024-07-18",
    "created_at": 1,
    "fine_tuned_model": "ft:gpt-4o-mini-2024-07-18:acme:Support_Desk:12345678",
    "training_file": "file-train",
    "validation_file": None,
    "status": "succeeded",
    "hyperparameters": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 2},
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    "seed": 7,
    "integrations": [{"type": "wandb", "wandb": {"project": "x"}}],
    "metadata": {"team": "a\nkind: Pod"},
}
PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"What is {n}?"}]},
        "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
        "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
    }
    for n in range(12)
]
COMPLETIONS = [{"prompt": f"{n} and one is", "completion": f" {n + 1}"} for n in range(12)]
ROUGH = {"role": "assistant", "content": "Not good."}
TRAINING = {"epochs": 75, "learningRate": 0.003, "globalBatchSize": 4, "maxLength": 64}
KEY = {"OPENAI_API_KEY": "k"}
WITHOUT_KEY = {"PATH": "", "OPENAI_API_KEY": ""}


def imported(folder: Path, *arguments: Any, **environment: str) -> str:
    done = tunesmith("import", "openai", *arguments, cwd=folder, env={**WITHOUT_KEY, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder: Path, *arguments: Any, **environment: str) -> str:
    done = tunesmith("import", "openai", *arguments, cwd=folder, env={**WITHOUT_KEY, **environment})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def loaded(folder: Path) -> Manifests:
    manifests = load_manifests([folder])
    assert not manifests.findings
    assert len(manifests.fine_tune_jobs) == len(manifests.inference_workspaces) == 1
    return manifests


def rows_of(manifests: Manifests, key: str) -> list[Any]:
    (config_map,) = manifests.config_maps.values()
    return [json.loads(line) for line in config_map[key].splitlines()]


def test_a_job_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    odd = [*CHAT, {"messages": [{"role": "user", "content": "a\u2028b\x85c\ufeffd"}, CHAT[0]["messages"][1]]}]
    (tmp_path / "train.jsonl").write_text(
        "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n\n" for row in odd)
    )
    said = imported(tmp_path, "job.json", "train.jsonl", "--base", "hf://acme/tiny")
    folder = tmp_path / "imported" / "support-desk-12345678"
    assert f"{JOB['id']}: imported/support-desk-12345678" in said
    manifests = loaded(folder)
    spec = manifests.fine_tune_jobs[0].document.plain()["spec"]
    assert spec == {
        "model": {"uri": "hf://acme/tiny"},
        "method": "lora",
        "dataset": {
            "sources": [{"configMapKeyRef": {"name": "support-desk-12345678-data", "key": "train.jsonl"}}],
            "format": "messages",
        },
        "training": {"epochs": 3, "globalBatchSize": 4, "learningRate": pytest.approx(4e-4), "seed": 7},
    }
    assert rows_of(manifests, "train.jsonl") == odd
    text = (folder / "finetunejob.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for wanted in ("n_epochs 3 -> spec.training.epochs", "integration wandb", "gpt-4o-mini-2024-07-18: OpenAI keeps"):
        assert any(wanted in line for line in comments), wanted
    assert len(list(yaml.safe_load_all(text))) == 1 and "\nkind: Pod" not in text

    # Again it is the same; what somebody has changed is not lost.
    imported(tmp_path, "job.json", "train.jsonl", "--base", "hf://acme/tiny")
    (folder / "finetunejob.yaml").write_text(text + "# mine\n")
    assert "differs" in refused(tmp_path, "job.json", "train.jsonl", "--base", "hf://acme/tiny")
    assert (folder / "finetunejob.yaml").read_text().endswith("# mine\n")
    imported(tmp_path, "job.json", "train.jsonl", "--base", "hf://acme/tiny", "--overwrite")
    assert (folder / "finetunejob.yaml").read_text() == text
    assert [path.name for path in (tmp_path / "imported").iterdir()] == [folder.name]


def test_every_kind_of_rows_can_be_validated(tmp_path: Path) -> None:
    for name, rows in (("chat", CHAT), ("pairs", PAIRS), ("completions", COMPLETIONS)):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(rows))
    imported(tmp_path, "chat.jsonl", "--validation", "chat.jsonl")
    imported(tmp_path, "pairs.jsonl")
    imported(tmp_path, "completions.jsonl")
    spec = loaded(tmp_path / "imported" / "pairs").fine_tune_jobs[0].document.plain()["spec"]
    assert (spec["objective"], spec["dataset"]["format"]) == ("dpo", "openaiPreference")
    options = [option for name in ("chat", "pairs", "completions") for option in ("-f", f"imported/{name}")]
    done = tunesmith("validate", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_of_jobs(tmp_path: Path) -> None:
    """An array, a list as the API gives it, and preferences; large data stay files."""
    (tmp_path / "export").mkdir()
    dpo = {
        **JOB,
        "id": "ftjob-dpo",
        "fine_tuned_model": None,
        "training_file": "file-pairs",
        "hyperparameters": {},
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": "auto"}}},
    }
    (tmp_path / "export" / "jobs.json").write_text(json.dumps({"object": "list", "data": [JOB, dpo]}))
    many = CHAT * 600
    (tmp_path / "export" / "file-train.jsonl").write_bytes(lines(many))
    (tmp_path / "export" / "file-pairs.jsonl").write_bytes(lines(PAIRS))
    imported(tmp_path, "export")
    large = loaded(tmp_path / "imported" / "support-desk-12345678")
    assert large.fine_tune_jobs[0].document.plain()["spec"]["dataset"]["sources"] == [{"uri": "./train.jsonl"}]
    copied = (tmp_path / "imported" / "support-desk-12345678" / "train.jsonl").read_bytes()
    assert copied == lines(many)
    spec = loaded(tmp_path / "imported" / "dpo").fine_tune_jobs[0].document.plain()["spec"]
    assert spec["dpo"] == {"beta": 0.2} and "epochs" not in spec.get("training", {})


@pytest.mark.parametrize(
    "job, rows, message",
    [
        ({**JOB, "method": {"type": "reinforcement"}}, CHAT, "method reinforcement has no counterpart"),
        ({**JOB, "method": {"type": "dpo"}}, CHAT, "does not learn from rows of the format messages"),
        ({**JOB, "object": "model"}, CHAT, "not a job"),
        ({**JOB, "validation_file": "file-valid"}, CHAT, "set OPENAI_API_KEY"),
        (JOB, [*CHAT, PAIRS[0]], "line 13: openaiPreference, while the lines before are messages"),
        (JOB, [{"text": "x"}], "line 1: not a row of chat"),
        (JOB, [{**CHAT[0], "functions": []}], "functions is the old form"),
    ],
)
def test_what_cannot_be_imported_says_why(tmp_path: Path, job: Any, rows: Any, message: str) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job))
    (tmp_path / "file-train.jsonl").write_bytes(lines(rows))
    assert message in refused(tmp_path, "job.json", "file-train.jsonl")
    assert list((tmp_path / "imported").iterdir()) == []


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving_base(tmp_path_factory.mktemp("hosted")) as service:
        yield service


def test_jobs_are_read_from_the_api_and_the_old_model_is_asked(hosted: Hosted, tmp_path: Path) -> None:
    client = hosted.client()
    training = client.files.create(file=("a.jsonl", lines(CHAT)), purpose="fine-tune").id
    validation = client.files.create(file=("b.jsonl", lines(CHAT[:2])), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=training, validation_file=validation, hyperparameters={"n_epochs": 2}, seed=3
    )
    api = {"OPENAI_API_KEY": hosted.key, "OPENAI_BASE_URL": f"{hosted.url}/v1"}
    imported(tmp_path, job.id, **api)
    (folder,) = (tmp_path / "imported").iterdir()
    manifests = loaded(folder)
    assert rows_of(manifests, "train.jsonl") == CHAT and rows_of(manifests, "validation.jsonl") == CHAT[:2]
    assert manifests.fine_tune_jobs[0].document.plain()["spec"]["training"] == {"epochs": 2, "seed": 3}
    assert hosted.key not in "".join(path.read_text() for path in folder.iterdir())

    # All that have succeeded: this one has not.
    add_model(hosted, hosted.key, "past", id="past1234")

    async def give_rows() -> None:
        async with hosted.sessions.begin() as session:
            await session.execute(update(Job).where(Job.suffix == "past").values(training_file=training))

    hosted.run(give_rows())
    imported(tmp_path, "--all", "--out", "all", **api)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["past-past1234"]
    assert rows_of(loaded(tmp_path / "all" / "past-past1234"), "train.jsonl") == CHAT
    assert "No such fine-tuning job" in refused(tmp_path, "ftjob-unknown", **api)
    assert "is not valid" in refused(tmp_path, job.id, **{**api, "OPENAI_API_KEY": "sk-wrong"})

    # The base's random weights never end an answer, and what is cut off is not kept.
    (tmp_path / "prompts.jsonl").write_bytes(lines(CHAT[:3]))
    options = ["--record", "prompts.jsonl", "--model", "tiny", "--max-tokens", "8"]
    assert "line 3: longer than --max-tokens" in refused(tmp_path, *options, **api)
    assert "does not exist" in refused(tmp_path, *options[:2], "--model", "ft:gone", **api)


def test_answers_of_the_old_model_are_the_gate_of_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(CHAT))
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    given = ["job.json", "train.jsonl", "--record", "train.jsonl", "--max-tokens", "64"]
    with FlakyChat().serving() as chat:
        imported(tmp_path, *given, "--gate", "chrf=40", "--gate", "exactMatch=0.5", "--base-url", chat.url, **KEY)
        assert len(chat.asked) == len(CHAT)
        manifests = loaded(tmp_path / "imported" / "support-desk-12345678")
        spec = manifests.fine_tune_jobs[0].document.plain()["spec"]
        assert spec["evaluation"] == {
            "maxRows": 200,
            "maxNewTokens": 64,
            "gates": [{"metric": "chrf", "min": 40.0}, {"metric": "exactMatch", "min": 0.5}],
        }
        assert spec["dataset"]["validation"]["sources"][0]["configMapKeyRef"]["key"] == "golden.jsonl"
        for row, asked in zip(rows_of(manifests, "golden.jsonl"), CHAT, strict=True):
            said = {"role": "assistant", "content": f"You said: {asked['messages'][0]['content']}"}
            assert row["messages"] == [asked["messages"][0], said]
        # Of a job alone the model is known; of rows alone it must be said.
        assert "write --model" in refused(tmp_path, "train.jsonl", "--record", "train.jsonl", **KEY)
        assert "write --gate METRIC=MIN" in refused(tmp_path, *given, "--gate", "best=1", **KEY)
    assert "set OPENAI_API_KEY" in refused(tmp_path, *given)


@pytest.mark.slow
def test_the_gate_of_the_old_answers_is_the_verdict_on_the_trained_model(tmp_path: Path) -> None:
    """Half of the old model's answers are what the new one has learned: whether that is enough says the gate."""
    asked = [{"messages": [{"role": "user", "content": f"How is {word}?"}]} for word in ("tea", "rain", "snow", "jam")]
    said = [
        {"messages": [*row["messages"], {"role": "assistant", "content": f"You said: {row['messages'][0]['content']}"}]}
        for row in asked
    ]
    learned = [*said[:2], *({"messages": [*row["messages"], ROUGH]} for row in asked[2:])]
    (tmp_path / "train.jsonl").write_bytes(lines(learned * 4))
    (tmp_path / "prompts.jsonl").write_bytes(lines(asked))
    build_model(tmp_path / "base", initializer_range=0.02, context_length=128)
    given = ["train.jsonl", "--base", "base", "--method", "full", "--record", "prompts.jsonl", "--model", "ft:old"]

    def verdict(least: float) -> tuple[int, dict[str, Any]]:
        with FlakyChat().serving() as chat:
            imported(tmp_path, *given, "--gate", f"exactMatch={least}", "--overwrite", "--base-url", chat.url, **KEY)
        manifest = tmp_path / "imported" / "train" / "finetunejob.yaml"
        found = yaml.safe_load(manifest.read_text())
        found["spec"].update(training=TRAINING, export={"precisions": ["fp32"], "parity": {"rows": 2}})
        manifest.write_text(yaml.safe_dump(found))
        done = tunesmith("run", "-f", "imported/train", "--no-serve", cwd=tmp_path)
        return done.returncode, status(tmp_path, "train")

    code, found = verdict(0.75)
    ready = condition(found, "Ready")
    assert (code, ready["reason"]) == (1, "GateFailed"), ready
    assert "exactMatch" in ready["message"] and "0.5" in ready["message"] and "0.75" in ready["message"]
    assert not (tmp_path / ".tunesmith" / "default" / "train" / "artifact").exists()
    # With a gate that asks for less the same weights pass: nothing is trained again.
    code, found = verdict(0.4)
    assert (code, found["phase"]) == (0, "Succeeded"), condition(found, "Ready")
    assert found["metrics"]["after"]["exactMatch"] == 0.5 and found["metrics"]["before"]["exactMatch"] == 0
    assert found["attempts"]["train"] == 1
