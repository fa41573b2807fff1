"""`tunesmith` as people call it: exit codes, status files, going on, refusing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import openai
import pytest

from support.cli import condition, status, tunesmith, write
from support.hub_mirror import HubMirror
from support.manifests import ROWS, config_map, job, workspace
from support.ports import free_port
from support.tiny_models import build_model
from tunesmith_api.contract import MACHINE
from tunesmith_api.local.cpus import multiplies_bytes
from tunesmith_api.objects.finetunejob import FineTuneJobStatus
from tunesmith_api.spec.quantity import amount


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """A folder in which the tiny job has run to its end, once its data was mended: nothing was trained before."""
    folder = tmp_path_factory.mktemp("completed")
    rows = config_map()
    rows["data"]["rows.jsonl"] = rows["data"]["rows.jsonl"].replace("It is cz.", 'It is "cz.', 1)
    write(folder / "manifests", job(), workspace(), rows)
    refused = tunesmith("run", "-f", "manifests", "--no-serve", cwd=folder)
    trained = (folder / ".tunesmith" / "default" / "tiny" / "train").exists()
    found = {"code": refused.returncode, "stderr": refused.stderr, "status": status(folder), "trained": trained}
    (folder / "refused.json").write_text(json.dumps(found))
    # Served as documented where the processor has what int8 needs.
    both = {"precision": "fp32", "contextLength": 128, "maxBatchSize": 2, "batchPrecision": "int8"}
    objects = [job(export={"precisions": ["fp32", "int8"]}), workspace(runtime=both)]
    manifests = write(folder / "manifests", *(objects if multiplies_bytes() else [job(), workspace()]), config_map())
    result = tunesmith("run", "-f", manifests, "--no-serve", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "printed").write_text(result.stdout)
    return folder


def test_a_completed_job_says_so_in_its_status(completed):
    found = status(completed)
    assert found["phase"] == "Succeeded"
    assert condition(found, "Ready")["status"] == "True"
    assert condition(found, "Reconciling")["status"] == condition(found, "Stalled")["status"] == "False"
    # The first attempt of prepare found the bad row.
    assert found["attempts"] == {"prepare": 2, "train": 1, "publish": 1}
    assert found["resolved"]["totalSteps"]["value"] == 12
    assert found["metrics"]["after"]["evalLoss"] < found["metrics"]["before"]["evalLoss"]
    manifest = json.loads((Path(found["artifact"]["uri"]) / "manifest.json").read_text())
    assert manifest["digest"] == found["artifact"]["digest"]
    assert "data_report.json" in manifest["files"]


def test_the_plan_and_what_was_measured_stand_side_by_side(completed):
    found = status(completed)
    prepared = json.loads((completed / ".tunesmith" / "default" / "tiny" / "prepare" / "stage.json").read_text())
    assert found["plan"] == prepared["plan"]
    FineTuneJobStatus.model_validate(found)
    assert found["plan"]["machine"] == "this machine"
    assert found["resolved"]["microBatchSize"]["value"] == found["plan"]["microBatchSize"] == 8
    assert found["measured"].keys() == found["plan"]["stages"].keys() == {"prepare", "train", "publish"}
    assert amount(found["measured"]["train"]["memory"]) > 1e8
    manifest = json.loads((Path(found["artifact"]["uri"]) / "manifest.json").read_text())
    assert manifest["plan"] == found["plan"]
    assert manifest["measured"]["train"] == found["measured"]["train"]
    printed = (completed / "printed").read_text().splitlines()
    assert printed[0].startswith("FineTuneJob tiny  planned: ")
    assert "training takes " in printed[0]
    assert "ddp, 8 rows x 1 a step" in printed[0]
    (line,) = [line for line in printed if line.startswith("  train: took ")]
    assert f"{found['measured']['train']['memory']} of memory" in line
    assert f"; planned {found['plan']['stages']['train']['memory']} of memory" in line


def test_a_job_that_cannot_fit_is_refused_and_no_weights_are_downloaded(tmp_path):
    build_model(tmp_path / "hub" / "acme" / "tiny")
    manifests = write(tmp_path / "manifests", job(model={"uri": "hf://acme/tiny"}), config_map())
    with HubMirror(tmp_path / "hub").serving() as mirror:
        machine = json.dumps([{"name": "small", "cpus": 2, "memory": "200Mi"}])
        env = {**os.environ, "HF_ENDPOINT": mirror.endpoint, "HF_HOME": str(tmp_path / "home"), MACHINE: machine}
        result = tunesmith("run", "-f", manifests, "--no-serve", cwd=tmp_path, env=env)
    assert result.returncode == 1
    ready = condition(status(tmp_path), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DoesNotFit")
    assert "small has 200Mi" in ready["message"]
    assert condition(status(tmp_path), "Stalled")["status"] == "True"
    assert any(path.endswith("/config.json") for path in mirror.requests)
    assert not any("safetensors" in path for path in mirror.requests)
    assert not list((tmp_path / ".tunesmith").rglob("*.safetensors"))


def test_run_again_it_does_nothing(completed):
    before = {p: p.stat().st_mtime_ns for p in (completed / ".tunesmith").rglob("*") if p.is_file()}
    result = tunesmith("run", "-f", "manifests", "--no-serve", cwd=completed)
    assert result.returncode == 0, result.stderr
    after = {p: p.stat().st_mtime_ns for p in (completed / ".tunesmith").rglob("*") if p.is_file()}
    changed = {p.name for p in after if after[p] != before.get(p)}
    assert changed <= {"lock", "prepare-outcome.json", "train-outcome.json", "publish-outcome.json"}


def test_another_spec_under_the_same_name_is_refused(completed, tmp_path):
    other = job(training={"maxSteps": 3, "maxLength": 128})
    manifests = write(tmp_path / "other", other, config_map())
    result = tunesmith("run", "-f", manifests, "--no-serve", cwd=completed)
    assert result.returncode == 2
    assert "another training." in result.stderr and "training.maxSteps" in result.stderr
    assert "--restart" in result.stderr and "another metadata.name" in result.stderr
    assert status(completed)["phase"] == "Succeeded"


def test_other_data_under_the_same_name_is_refused(completed, tmp_path):
    manifests = write(tmp_path / "other", job(), config_map(rows=ROWS[:20]))
    result = tunesmith("run", "-f", manifests, "--no-serve", cwd=completed)
    assert result.returncode == 2
    assert "other data than tiny-data/rows.jsonl now" in result.stderr


def ignore_sigint():
    """What a shell does for the jobs that it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "at_start"),
    [(signal.SIGINT, None), (signal.SIGTERM, None), (signal.SIGTERM, ignore_sigint)],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM in the background"],
)
def test_serves_until_stopped(completed, number, at_start):
    port = free_port()
    command = [sys.executable, "-m", "tunesmith_cli", "run", "-f", "manifests", "--port", str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=completed, preexec_fn=at_start, **pipes) as process:
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), process)
            wait_for(lambda: status(completed, kind="inferenceworkspace")["phase"] == "Serving", process)
            found = status(completed, kind="inferenceworkspace")
            assert found["endpoint"] == f"http://127.0.0.1:{port}/v1"
            assert status(completed)["artifact"]["digest"].removeprefix("sha256:").startswith(found["revision"])
            client = openai.OpenAI(base_url=found["endpoint"], api_key="none")
            reply = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "What is a and u?"}], max_tokens=8, temperature=0
            )
            assert reply.usage.completion_tokens > 0
        finally:
            process.send_signal(number)
            output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    assert not answers(f"http://127.0.0.1:{port}/readyz")
    assert status(completed, kind="inferenceworkspace")["readyReplicas"] == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def wait_for(condition_, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition_():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def test_a_port_that_is_taken_is_said(completed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = tunesmith("run", "-f", "manifests", "--port", port, cwd=completed)
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr and "--port" in result.stderr


def test_serve_names_the_precisions_that_are_there(completed):
    result = tunesmith("serve", ".tunesmith/default/tiny/artifact", "--precision", "int4", cwd=completed)
    assert result.returncode == 2
    assert "fp32" in result.stderr and "--precision" in result.stderr
    result = tunesmith("serve", "manifests", cwd=completed)
    assert result.returncode == 2
    assert "manifest.json" in result.stderr


def test_serve_takes_the_options_of_a_runtime(completed):
    port = free_port()
    options = ["--port", str(port), "--name", "mine", "--context-length", "64", "--prefix-cache-memory", "16Mi"]
    command = [sys.executable, "-m", "tunesmith_cli", "serve", ".tunesmith/default/tiny/artifact", *options]
    with subprocess.Popen(command, cwd=completed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), process)
            (model,) = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none").models.list()
            assert (model.id, model.max_model_len) == ("mine", 64)
        finally:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    result = tunesmith("serve", ".tunesmith/default/tiny/artifact", "--prefix-cache-memory", "much", cwd=completed)
    assert result.returncode != 0
    assert "--prefix-cache-memory: cannot be 'much'; write for example 1Gi" in result.stderr


def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(tmp_path):
    steps = {
        "maxSteps": 200,
        "learningRate": 0.003,
        "globalBatchSize": 8,
        "maxLength": 128,
        "checkpoint": {"everySteps": 5},
    }
    manifests = write(tmp_path / "manifests", job(training=steps), config_map())
    command = [sys.executable, "-m", "tunesmith_cli", "run", "-f", str(manifests), "--no-serve"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        checkpoints = tmp_path / ".tunesmith" / "default" / "tiny" / "train" / "checkpoints"
        wait_for(lambda: list(checkpoints.glob("*/complete.json")), process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output.decode()
    found = status(tmp_path)
    assert condition(found, "Ready")["status"] == "Unknown"
    assert condition(found, "Ready")["reason"] == "Interrupted"
    assert tunesmith("run", "-f", manifests, "--no-serve", cwd=tmp_path).returncode == 0
    found = status(tmp_path)
    assert found["phase"] == "Succeeded"
    assert found["attempts"] == {"prepare": 1, "train": 2, "publish": 1}
    log = [json.loads(line) for line in (checkpoints.parent / "training_log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 200


def test_a_failed_gate_ends_the_job_and_nothing_is_served(tmp_path):
    gate = {"maxRows": 4, "maxNewTokens": 8, "gates": [{"metric": "exactMatch", "min": 1.0}]}
    manifests = write(tmp_path / "manifests", job(evaluation=gate), workspace(), config_map())
    result = tunesmith("run", "-f", manifests, "--port", free_port(), cwd=tmp_path)
    assert result.returncode == 1
    found = status(tmp_path)
    assert found["phase"] == "Failed"
    assert condition(found, "Stalled")["status"] == "True"
    assert condition(found, "Ready")["reason"] == "GateFailed"
    assert "exactMatch" in condition(found, "Ready")["message"]
    assert not (tmp_path / ".tunesmith" / "default" / "tiny" / "artifact" / "manifest.json").exists()


def test_bad_data_fails_before_training(completed):
    result = json.loads((completed / "refused.json").read_text())
    assert result["code"] == 1
    assert "Traceback" not in result["stderr"]
    line = ROWS.index({"prompt": "What is c and z?", "completion": "It is cz."}) + 1
    assert f"rows.jsonl:{line}" in condition(result["status"], "Ready")["message"]
    assert condition(result["status"], "Ready")["reason"] == "InvalidDataset"
    assert result["trained"] is False


def test_two_commands_do_not_work_in_one_folder(completed):
    import fcntl

    with (completed / ".tunesmith" / "default" / "tiny" / "lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = tunesmith("run", "-f", "manifests", "--no-serve", cwd=completed)
    assert result.returncode == 2
    assert "in use by another tunesmith" in result.stderr


def test_a_bad_manifest_runs_nothing(tmp_path):
    bad = job()
    bad["spec"]["methode"] = "lora"
    result = tunesmith("run", "-f", write(tmp_path / "manifests", bad, config_map()), cwd=tmp_path)
    assert result.returncode == 2
    assert "spec.methode" in result.stderr and "method" in result.stderr
    assert not (tmp_path / ".tunesmith").exists()
    result = tunesmith("run", "-f", tmp_path / "nothing.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_version_and_help(tmp_path):
    result = tunesmith("version", cwd=tmp_path, env={**os.environ, "COLUMNS": "100"})
    assert result.stdout.startswith("tunesmith ") and "torch" in result.stdout
    assert "run" in tunesmith("--help", cwd=tmp_path).stdout
