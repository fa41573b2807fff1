"""What a machine has, read from folders like those of Linux."""

from pathlib import Path

import pytest

from tunesmith_api.local import hardware
from tunesmith_api.local.hardware import read_hardware

MEMINFO = "MemTotal:       16000 kB\nMemFree:  1000 kB\nMemAvailable:    9000 kB\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16,000 KiB without GPUs."""
    monkeypatch.setattr(hardware, "_NVIDIA_SMI", ("no-such-program",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    return tmp_path


def group(root: Path, path: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_memory_of_the_machine(root: Path) -> None:
    found = read_hardware(root)
    assert (found.memory, found.available) == (16000 * 1024, 9000 * 1024)
    assert found.cpus >= 1
    assert (found.gpu, found.gpus, found.gpu_memory) == (None, 0, None)


def test_limit_of_a_container_with_cgroup_v2(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/pods/mine\n")
    stat = "anon 1\ninactive_file 2048\n"
    group(root, "pods/mine", memory__max="max\n", memory__current="5000\n", memory__stat=stat, cpu__max="max 100000\n")
    group(root, "pods", memory__max="4096000\n", memory__current="96000\n", memory__stat=stat, cpu__max="100000 100000")
    found = read_hardware(root)
    assert found.memory == 4096000
    assert found.available == 4096000 - (96000 - 2048)
    assert found.cpus == 1


def test_limit_of_a_container_with_cgroup_v1(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("5:cpu,cpuacct:/\n4:memory:/mine\n0::/\n")
    group(root, "memory/mine", memory__limit_in_bytes="8192000", memory__usage_in_bytes="8191000")
    group(root, "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="9")
    found = read_hardware(root)
    assert (found.memory, found.available) == (8192000, 1000)


def test_a_limit_above_the_memory_is_none(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/\n")
    group(root, "", memory__max=str(2**40))
    assert read_hardware(root).memory == 16000 * 1024


def nvidia_smi(root: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    program = root / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)
    monkeypatch.setattr(hardware, "_NVIDIA_SMI", (str(program),))


def test_gpus_are_named_as_their_nodes_are_labelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(root, monkeypatch, "NVIDIA A100-SXM4-80GB, 81920", "NVIDIA A100-SXM4-80GB, 81920")
    found = read_hardware(root)
    assert (found.gpu, found.gpus, found.gpu_memory) == ("NVIDIA-A100-SXM4-80GB", 2, 80 << 30)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert read_hardware(root).gpus == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read_hardware(root).gpus == 0


def test_the_smallest_of_several_gpus_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(root, monkeypatch, "NVIDIA L4, 23034", "Tesla T4, 15360", "broken, [N/A]")
    found = read_hardware(root)
    assert (found.gpus, found.gpu_memory) == (2, 15360 << 20)


def test_this_machine() -> None:
    found = read_hardware()
    assert 0 < found.available <= found.memory
