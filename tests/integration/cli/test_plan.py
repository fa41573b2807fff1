"""`tunesmith plan` as people call it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cli import tunesmith, write
from support.hub_mirror import HubMirror
from support.manifests import config_map, job
from support.model_configs import LLAMA_8B

MACHINES = [
    {"name": "cpu", "cpus": 8, "memory": "8Gi", "pricePerHour": 0.4},
    {"name": "one", "cpus": 24, "memory": "220Gi", "gpu": "A100-80GB", "gpus": 1, "pricePerHour": 3.5},
    {"name": "eight", "cpus": 96, "memory": "1900Gi", "gpu": "A100-80GB", "gpus": 8, "pricePerHour": 30},
]


@pytest.fixture
def large(tmp_path: Path) -> dict[str, Any]:
    """A job on a model of 8 billion parameters, of which only the configuration is there."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump({"machines": MACHINES}))
    training = {"maxSteps": 200_000, "globalBatchSize": 16, "maxLength": 1024}
    return job("large", model={"uri": str(folder)}, method="full", training=training)


def planned(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command on all.yaml; returns the exit code and the first job of what it prints as JSON."""
    result = tunesmith("plan", "-f", "all.yaml", "--machines", "machines.yaml", "-o", "json", *arguments, cwd=folder)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)["items"][0]


def test_the_cheapest_machine_that_fits_is_chosen(tmp_path: Path, large: dict[str, Any]) -> None:
    write(tmp_path, large | {"spec": large["spec"] | {"resources": {"machine": "auto"}}}, config_map("large"))
    code, found = planned(tmp_path)
    assert (code, found["fits"]) == (0, True)
    assert found["plan"]["machine"] == "eight"
    assert found["plan"]["model"]["parameters"] == 8_030_261_248
    assert found["plan"]["processes"] == 8
    assert found["plan"]["strategy"].startswith("zero")
    assert found["plan"]["cost"] > 0
    assert found["data"]["rows"] == 32
    prices = {(row["machine"], row["method"], row["plan"]["strategy"]): row["fits"] for row in found["prices"]}
    assert not prices["eight", "full", "ddp"]
    assert prices["one", "lora", "ddp"]
    assert {machine for machine, _, _ in prices} == {"this machine", "cpu", "one", "eight"}


def test_what_does_not_fit_has_its_own_code_and_ways_out(tmp_path: Path, large: dict[str, Any]) -> None:
    write(tmp_path, large, config_map("large"))
    code, found = planned(tmp_path, "--on", "one")
    assert (code, found["fits"]) == (22, False)
    assert "one has 79Gi" in found["message"]
    assert any(way.startswith("resources: {machine: eight} (needs ") for way in found["nearest"])
    assert any("method: lora" in way for way in found["nearest"])
    result = tunesmith("plan", "-f", "all.yaml", "--machines", "machines.yaml", "--on", "one", cwd=tmp_path)
    assert result.returncode == 22
    assert "does not fit" in result.stdout
    assert "would fit: method: lora" in result.stdout


def test_in_a_pipe_each_row_is_one_line(tmp_path: Path, large: dict[str, Any]) -> None:
    write(tmp_path, large, config_map("large"))
    command = ("plan", "-f", "all.yaml", "--machines", "machines.yaml", "--on", "eight")
    result = tunesmith(*command, cwd=tmp_path, env={**os.environ, "COLUMNS": "40"})
    assert result.returncode == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("one ") and " lora " in line]
    assert "ddp x" in row
    lines = result.stdout.splitlines()
    heading = next(line for line in lines if line.startswith("MACHINE"))
    assert {"ZERO3", "HOST", "PUBLISH", "DISK", "TIME", "COST"} <= set(heading.split())
    assert row[heading.index("TAKES") :].startswith("ddp x")
    assert not any(line.startswith("cpu ") for line in lines)
    result = tunesmith(*command, "--all", cwd=tmp_path)
    assert any(line.startswith("cpu ") for line in result.stdout.splitlines())


def test_a_model_of_the_hub_costs_one_request(tmp_path: Path, large: dict[str, Any]) -> None:
    folder = tmp_path / "hub" / "acme" / "large"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "config.json").rename(folder / "config.json")
    write(tmp_path, large | {"spec": large["spec"] | {"model": {"uri": "hf://acme/large"}}}, config_map("large"))
    with HubMirror(tmp_path / "hub").serving() as mirror:
        env = {**os.environ, "HF_ENDPOINT": mirror.endpoint, "HF_HUB_OFFLINE": ""}
        result = tunesmith("plan", "-f", "all.yaml", "--on", "Standard_ND96amsr_A100_v4", cwd=tmp_path, env=env)
        assert result.returncode == 0, result.stderr
        assert mirror.requests == ["GET /acme/large/resolve/main/config.json"]
        mirror.status = 503
        result = tunesmith("plan", "-f", "all.yaml", cwd=tmp_path, env=env)
        assert (result.returncode, "Traceback" in result.stderr) == (3, False)


def test_several_files_and_standard_input(tmp_path: Path) -> None:
    manifest = yaml.safe_dump_all([job("piped"), config_map("piped")])
    write(tmp_path, job(), config_map())
    result = tunesmith("plan", "-f", "all.yaml", "-f", "-", "-o", "json", cwd=tmp_path, input=manifest)
    assert result.returncode == 0, result.stderr
    items = json.loads(result.stdout)["items"]
    assert [item["name"] for item in items] == ["tiny", "piped"]
    assert {item["plan"]["machine"] for item in items} == {"this machine"}
    assert not (tmp_path / ".tunesmith").exists()


def test_what_cannot_be_planned_is_told(tmp_path: Path, large: dict[str, Any]) -> None:
    write(tmp_path, large, config_map("large"))
    (tmp_path / "model" / "config.json").write_text(json.dumps(LLAMA_8B | {"model_type": "mamba"}))
    result = tunesmith("plan", "-f", "all.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "FineTuneJob large: config.json: the planner does not know model_type 'mamba'" in result.stderr
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(config_map()))
    assert "no FineTuneJob" in tunesmith("plan", "-f", "all.yaml", cwd=tmp_path).stderr
    assert tunesmith("plan", "-f", "absent.yaml", cwd=tmp_path).returncode == 2


def test_it_imports_no_machine_learning(tmp_path: Path) -> None:
    code = (
        "import sys, tunesmith_cli.commands.plan\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'fsspec', 'kopf', 'aiohttp') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
