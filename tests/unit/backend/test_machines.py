"""Which machines a job is planned for."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.objects.resources import ResourcesSpec
from tunesmith_api.planner import Machine, parse_machines
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.plan.machines import machines_for, read_machines

TABLE = parse_machines(
    [
        {"name": "cpu", "cpus": 8, "memory": "32Gi"},
        {"name": "one", "cpus": 24, "memory": "220Gi", "gpu": "A100-80GB", "gpus": 1, "pricePerHour": 3.5},
        {"name": "two", "cpus": 48, "memory": "440Gi", "gpu": "A100-80GB", "gpus": 2},
        {"name": "old", "cpus": 4, "memory": "28Gi", "gpu": "T4", "gpus": 1},
        {"name": "pool", "cpus": 4, "memory": "28Gi", "nodeSelector": {"kubernetes.azure.com/agentpool": "mine"}},
    ]
)


def chosen(on: str | None = None, table: tuple[Machine, ...] = TABLE, **resources: Any) -> tuple[Machine, ...]:
    return machines_for(ResourcesSpec.model_validate(resources), table, on)


def names(on: str | None = None, **resources: Any) -> list[str]:
    return [machine.name for machine in chosen(on, **resources)]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, ["this machine"]),
        ({"machine": "two"}, ["two"]),
        ({"machine": "auto"}, ["cpu", "one", "two", "old", "pool"]),
        ({"gpusPerNode": 1}, ["one", "old"]),
        ({"gpusPerNode": 1, "gpu": {"minMemoryGiB": 40}}, ["one"]),
        ({"gpusPerNode": 1, "gpu": {"product": "NVIDIA-A100-SXM4-80GB"}}, ["one"]),
        ({"gpusPerNode": 4, "gpu": {"product": "NVIDIA-H100-80GB-HBM3"}}, ["NVIDIA-H100-80GB-HBM3"]),
        ({"nodePool": "mine"}, ["pool"]),
        ({"instanceType": "Standard_D8s_v5"}, ["Standard_D8s_v5"]),
        ({"gpusPerNode": 3}, ["any node"]),
    ],
)
def test_what_a_job_asks_for(resources: dict[str, Any], expected: list[str]) -> None:
    assert names(**resources) == expected


def test_a_machine_that_is_named_on_the_command_line_comes_first() -> None:
    assert names("old", machine="two") == ["old"]
    assert names("this", gpusPerNode=1) == ["this machine"]


def test_a_pod_has_no_more_than_its_memory() -> None:
    (machine,) = chosen(machine="two", memory="64Gi")
    assert machine.memory == 64 << 30
    (machine,) = chosen(machine="cpu", memory="64Gi")
    assert machine.memory == 32 << 30


def test_a_gpu_that_is_not_in_the_table_has_its_known_memory() -> None:
    (machine,) = chosen(gpusPerNode=4, gpu={"product": "NVIDIA-H100-80GB-HBM3"})
    assert (machine.gpus, machine.memory_of_gpu) == (4, 79 << 30)


def test_a_machine_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(BackendError, match=r"--on big: there is no such machine; there are this and cpu, one"):
        chosen("big")
    with pytest.raises(BackendError, match=r"resources.machine: big: .*--machines FILE"):
        chosen(machine="big")


def test_a_file_of_machines_is_that_of_the_chart(tmp_path: Path) -> None:
    row = "{name: gpu, cpus: 24, memory: 220Gi, gpu: A100-80GB, gpus: 1, pricePerHour: 3.67}"
    (tmp_path / "list.yaml").write_text(f"- {row}\n")
    (tmp_path / "values.yaml").write_text(f"image: a\nmachines:\n  - {row}\n")
    for name in ("list.yaml", "values.yaml"):
        (machine,) = read_machines(tmp_path / name)
        assert (machine.name, machine.memory, machine.price_per_hour) == ("gpu", 220 << 30, 3.67)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "give a list of machines"),
        ("machines: []", "holds no machines"),
        ("- {name: a, cpus: 1}", "machines[0].memory"),
        ("- {name: a, cpus: 1, memory: 1Gi, gpus: 1, gpu: XYZ}", "gpuMemory"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "machines.yaml").write_text(text)
    with pytest.raises(BackendError) as caught:
        read_machines(tmp_path / "machines.yaml")
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(BackendError, match="No such file"):
        read_machines(tmp_path / "absent")
