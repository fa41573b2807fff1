"""Sessions of other execution providers: what is not there, or falls back, is refused; rows in a device's memory."""

import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from support.exporter_here import ExporterHere
from support.tiny_models import write_manifest
from tunesmith_api.spec import Precision
from tunesmith_api.spec.execution_providers import EXECUTION_PROVIDERS
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.providers import Provider, check_session
from tunesmith_serving.engines.session import open_session
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.kv.device import DeviceRows
from tunesmith_serving.runtime.errors import ProviderError


class OtherMemory(Provider):
    """The CPU, as a device whose memory is not the server's."""

    device_type = "cpu"
    device_id = 0
    on_device = True


def logits(decoder: OnnxDecoder) -> list[np.ndarray]:
    """Two prompts, two steps of both, the second one moved to the first row, and a step of it."""
    found = [decoder.prefill(0, np.arange(5, 12), 0).copy(), decoder.prefill(1, np.arange(40, 50), 0).copy()]
    found += [decoder.decode([3, 4], [7, 10], [None] * 2).copy(), decoder.decode([5, 6], [8, 11], [None] * 2).copy()]
    decoder.rows.move(1, 0, 12)
    return [*found, decoder.decode([9], [12], [None]).copy()]


@pytest.mark.parametrize("provider", sorted(set(EXECUTION_PROVIDERS) - {"cpu"}))
def test_a_provider_that_is_not_installed_is_refused(
    artifact: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    with pytest.raises(ProviderError) as refused:
        open_session(artifact / "onnx" / "fp32" / "model.onnx", 1, Provider(provider))
    said = str(refused.value)
    assert f"serving image of that provider (PROVIDER={provider})" in said
    assert EXECUTION_PROVIDERS[provider].package in said


def test_a_server_that_is_to_compute_on_a_missing_device_ends_with_one_line(artifact: Path) -> None:
    command = [sys.executable, "-m", "tunesmith_serving", "--artifact", str(artifact), "--port", "0"]
    done = subprocess.run(
        [*command, "--execution-provider", "cuda", "--precision", "int4"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "the execution provider cuda cannot compute int4 of the task textGeneration; serve fp16" in done.stderr
    done = subprocess.run([*command, "--execution-provider", "migraphx"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "holds only fp32 and int4, which the execution provider migraphx cannot compute; add fp16" in done.stderr


def test_a_session_that_falls_back_to_the_cpu_is_refused_with_the_nodes(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The build for the CPU has a second provider, which takes no node of such a model.
    azure = replace(EXECUTION_PROVIDERS["cuda"], ort_name="AzureExecutionProvider")
    monkeypatch.setitem(EXECUTION_PROVIDERS, "cuda", azure)
    with pytest.raises(ProviderError) as refused:
        open_session(artifact / "onnx" / "fp32" / "model.onnx", 1, Provider("cuda"))
    said = str(refused.value)
    assert "AzureExecutionProvider does not take the whole model" in said
    assert re.search(r"\d+ of its \d+ nodes would be computed on the CPU: 11 MatMul \(such as /", said)
    assert re.search(r"2 GroupQueryAttention \(such as /model/layers.0/attn/GroupQueryAttention\)", said)


class Node(NamedTuple):
    op_type: str
    name: str


class Graph(NamedTuple):
    ep_name: str
    nodes: list[Node]

    def get_nodes(self) -> list[Node]:
        return self.nodes


class Session(NamedTuple):
    graphs: list[Graph]

    def get_providers(self) -> list[str]:
        return [*{graph.ep_name for graph in self.graphs}, "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Graph]:
        return self.graphs


SHAPES = Graph("CPUExecutionProvider", [Node("Shape", "a"), Node("Gather", "b")])
ATTENTION = Graph("CPUExecutionProvider", [Node("GroupQueryAttention", "attention")])


@pytest.mark.parametrize(
    ("provider", "graphs", "is_refused"),
    [
        (Provider("cuda"), [Graph("CUDAExecutionProvider", [Node("MatMul", "m")]), SHAPES], False),
        (Provider("cuda"), [Graph("CUDAExecutionProvider", [Node("MatMul", "m")]), ATTENTION], True),
        (Provider("cuda"), [SHAPES], True),
        (
            Provider("tensorrt"),
            [
                Graph("TensorrtExecutionProvider", [Node("MatMul", "m")]),
                Graph("CUDAExecutionProvider", ATTENTION.nodes),
            ],
            False,
        ),
        (Provider("openvino"), [Graph("OpenVINOExecutionProvider", [Node("MatMul", "m")]), ATTENTION], False),
        (
            Provider("openvino", {"device_type": "GPU"}),
            [Graph("OpenVINOExecutionProvider", [Node("MatMul", "m")]), ATTENTION],
            True,
        ),
    ],
)
def test_which_nodes_may_be_computed_elsewhere(provider: Provider, graphs: list[Graph], is_refused: bool) -> None:
    with pytest.raises(ProviderError) if is_refused else nullcontext():
        check_session(Session(graphs), provider)


def test_rows_in_another_memory_give_the_same_logits(artifact: Path) -> None:
    opened = open_artifact(artifact, "fp32")
    here = OnnxDecoder(opened, 4, 128, 32, 1)
    there = OnnxDecoder(opened, 4, 128, 32, 1, provider=OtherMemory())
    assert isinstance(there.rows, DeviceRows)
    for expected, found in zip(logits(here), logits(there), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_copied_when_it_is_bound_is_bound_for_each_step(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = []
    bind = OnnxDecoder._bind_tokens
    monkeypatch.setattr(OnnxDecoder, "_bind_tokens", lambda self, *given: bound.append(1) or bind(self, *given))
    decoder = OnnxDecoder(open_artifact(artifact, "fp32"), 4, 128, 32, 1, provider=OtherMemory())
    for step in range(3):
        bound.clear()
        decoder.decode([3, 4], [step, step], [None] * 2)
        assert bound


def test_an_export_in_16_bits_runs_with_its_own_types(artifact: Path, hf_llama: Path, tmp_path: Path) -> None:
    with ExporterHere(tmp_path / "log.txt") as exporter:
        (tmp_path / "artifact" / "onnx").mkdir(parents=True)
        exporter.export(hf_llama, tmp_path / "artifact" / "onnx" / "fp16", Precision.FP16)
    half = open_artifact(write_manifest(tmp_path / "artifact"), "fp16")
    expected = logits(OnnxDecoder(open_artifact(artifact, "fp32"), 4, 128, 32, 1))
    for provider in (Provider(), OtherMemory()):
        found = logits(OnnxDecoder(half, 4, 128, 32, 1, provider=provider))
        for wanted, got in zip(expected, found, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, wanted, atol=0.03)
