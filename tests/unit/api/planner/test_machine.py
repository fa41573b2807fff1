"""The administrator's table of machines, and the known GPUs."""

import json

import pytest

from tunesmith_api.planner import DEVICES, MACHINES, parse_machines
from tunesmith_api.planner.devices import device_of

GIB = 2**30


def test_a_row_is_read_with_quantities() -> None:
    rows = [
        {
            "name": "a100",
            "cpus": "24",
            "memory": "220Gi",
            "gpu": "NVIDIA-A100-SXM4-80GB",
            "gpus": 1,
            "gpuMemory": "79Gi",
            "pricePerHour": 3.67,
            "nodeSelector": {"agentpool": "gpu"},
            "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu"}],
        }
    ]
    for table in (rows, json.dumps(rows)):
        (found,) = parse_machines(table)
        assert (found.memory, found.gpu_memory, found.cpus) == (220 * GIB, 79 * GIB, 24)
        assert found.device is DEVICES["A100-80GB"]
        assert parse_machines(json.dumps([found.to_api()])) == (found,)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[", "not JSON"),
        ('[{"cpus": 1, "memory": "1Gi"}]', r"machines\[0\].name"),
        ('[{"name": "a", "cpus": 1, "memory": "1Gi", "colour": 1}]', r"machines\[0\].colour"),
        ('[{"name": "a", "cpus": 1, "memory": "lots"}]', r"machines\[0\].memory"),
        ('[{"name": "a", "cpus": 1, "memory": "1Gi"}, {"name": "a", "cpus": 1, "memory": "1Gi"}]', "twice"),
        ('[{"name": "a", "cpus": 1, "memory": "1Gi", "gpus": 1, "gpu": "Unheard-Of"}]', r"gpuMemory: Unheard-Of"),
    ],
)
def test_a_wrong_row_is_named(table: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_machines(table)


@pytest.mark.parametrize(
    ("product", "memory", "device"),
    [
        ("NVIDIA-A100-SXM4-80GB", 0, "A100-80GB"),
        ("NVIDIA-A100-SXM4-40GB", 0, "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", 79 * GIB, "A100-80GB"),
        ("Tesla-T4", 0, "T4"),
        ("Tesla-V100-PCIE-16GB", 16 * GIB, "V100-16GB"),
        ("NVIDIA-H100-NVL", 0, "H100-NVL"),
        ("NVIDIA-H100-80GB-HBM3", 0, "H100-80GB"),
        ("NVIDIA H200", 140 * GIB, "H200"),
        ("NVIDIA-GeForce-RTX-4090", 0, "RTX-4090"),
        ("NVIDIA-L40S", 0, "L40S"),
        ("A100-80GB", 0, "A100-80GB"),
        ("Something", 0, None),
        (None, 0, None),
    ],
)
def test_a_gpu_is_known_by_its_product(product: str | None, memory: int, device: str | None) -> None:
    found = device_of(product, memory)
    assert (found.name if found else None) == device


def test_a_t4_computes_in_fp32_as_it_has_no_bf16() -> None:
    t4 = next(machine for machine in MACHINES if machine.gpu == "T4")
    assert not t4.has_bf16
    assert all(machine.memory_of_gpu for machine in MACHINES if machine.gpus)
