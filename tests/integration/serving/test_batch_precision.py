"""Weights in int8 for runs of several tokens, beside int4 for a single one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integration.serving.conftest import config, load_engine
from support.tiny_models import write_manifest
from tunesmith_api.local.cpus import multiplies_bytes
from tunesmith_api.spec import Precision
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.batching import graphs
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.graphs import SEVERAL
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.runtime.errors import ArtifactError
from tunesmith_trainer.export.exporter import Exporter

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI, which int8 needs")

PROMPTS = [[7 * row + 3 * index + 5 for index in range(9 + row)] for row in range(SEVERAL)]


@pytest.fixture(scope="module")
def both(hf_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both") / "artifact"
    with Exporter(folder.with_name("log")) as exporter:
        for precision in (Precision.INT4, Precision.INT8):
            exporter.export(hf_llama, folder / "onnx" / precision.value, precision)
    write_manifest(folder)
    return folder


def decoder_of(folder: Path, precision: str, batch: str | None = None) -> OnnxDecoder:
    second = open_artifact(folder, batch) if batch else None
    return OnnxDecoder(open_artifact(folder, precision), SEVERAL, 64, 32, 1, batch=second)


def steps(decoder: OnnxDecoder, rows: int) -> tuple[Any, Any]:
    """The logits after prompts of several tokens, and after one token more of each row."""
    first = np.stack([decoder.prefill(row, PROMPTS[row], 0).copy() for row in range(rows)])
    past = [len(prompt) for prompt in PROMPTS[:rows]]
    return first, decoder.decode([11] * rows, past, [None] * rows).copy()


def test_runs_of_several_tokens_are_computed_in_int8_and_single_tokens_in_int4(both: Path) -> None:
    mixed, int8 = decoder_of(both, "int4", "int8"), decoder_of(both, "int8")
    prompts, single = steps(mixed, 1)
    expected_prompts, expected_single = steps(int8, 1)
    assert np.array_equal(prompts, expected_prompts)
    assert not np.array_equal(single, expected_single)
    assert np.abs(single - expected_single).max() < 0.5 * np.abs(expected_single).max()
    for found, expected in zip(steps(mixed, SEVERAL), steps(int8, SEVERAL), strict=True):
        assert np.array_equal(found, expected)


def answers(folder: Path, batches: Sequence[Sequence[list[int]]], **options: object) -> list[list[int]]:
    """The tokens of answers to prompts that are asked batch by batch."""
    engine = load_engine(folder, config(max_batch_size=SEVERAL, draft_tokens=0, prefix_cache_memory="0", **options))
    found = []
    try:
        for prompts in batches:
            collectors = [Collector() for _ in prompts]
            asked = [
                (GenerationRequest(prompt, SamplingParams(temperature=1.0, max_tokens=16, seed=3)), collector)
                for prompt, collector in zip(prompts, collectors, strict=True)
            ]
            engine.batcher.submit_all(asked)
            found += [list(collector.result(300).token_ids) for collector in collectors]
    finally:
        engine.close()
    return found


def test_an_answer_in_int8_does_not_depend_on_the_other_rows(both: Path) -> None:
    together = answers(both, [PROMPTS], precision="int8")
    assert together == answers(both, [[prompt] for prompt in PROMPTS], precision="int8")
    assert len({tuple(answer) for answer in together}) == SEVERAL


def test_one_row_and_several_are_answered_with_both(both: Path) -> None:
    found = answers(both, [PROMPTS, PROMPTS[:1]], precision="int4", batch_precision="int8")
    assert all(len(answer) == 16 for answer in found)


def test_an_artifact_without_the_second_export_is_refused(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no precision int8 .* export int8"):
        load_engine(artifact, config(precision="int4", batch_precision="int8"))


def test_a_base_of_adapters_is_refused(lora_base: Path) -> None:
    with pytest.raises(ArtifactError, match=r"remove spec\.runtime\.batchPrecision"):
        load_engine(lora_base, config(batch_precision="int8"))


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"precision": "int4", "batch_precision": "int8"}])
def test_a_processor_whose_sums_overflow_is_refused(
    both: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "multiplies_bytes", lambda: False)
    with pytest.raises(ArtifactError, match=r"AVX-512 VNNI.*spec\.runtime\.precision: int4"):
        load_engine(both, config(**options))


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("fpu avx2 avx512f", "x86_64", False),
        ("fpu avx2 avx512_vnni", "x86_64", True),
        ("fpu avx2 avx_vnni", "x86_64", True),
        ("", "aarch64", True),
    ],
)
def test_what_the_kernel_says_of_a_processor(flags: str, machine: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert multiplies_bytes(tmp_path / "cpuinfo", machine) is expected
