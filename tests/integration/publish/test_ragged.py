"""The second graph computes for rows of any numbers of new tokens what the first computes for each row alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tunesmith_api.spec import Precision
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.export.graph import MODEL
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.ragged import RAGGED, write_ragged

ExportOf = Callable[[str, Precision], Path]
ROWS = [[5, 80, 33, 7, 120, 9, 61], [9, 4, 2], [300, 11, 45, 201, 77], [17, 3, 99, 8, 8, 250, 6, 41, 5, 70]]
CONTEXT = 24


class Runner:
    """A graph over one shared key-value buffer for four rows, as the server binds it."""

    def __init__(self, folder: Path, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(folder / model, options)
        self.names = [value.name for value in self.session.get_inputs() if value.name.startswith("past_key_values.")]
        self.cache = np.zeros((len(self.names), len(ROWS), 2, CONTEXT, 16), np.float32)

    def run(self, new: list[list[int]], past: list[int], given: dict[str, Any] | None = None) -> np.ndarray:
        """Logits of the first rows' new tokens."""
        counts = np.asarray([len(tokens) for tokens in new], np.int32)
        ids = np.full((len(new), counts.max()), 499, np.int64)  # padding that would be noticed
        for row, tokens in enumerate(new):
            ids[row, : len(tokens)] = tokens
        total = counts + past
        pairs = [(row, position) for row, count in enumerate(counts) for position in range(count)]
        feeds: dict[str, Any] = {"input_ids": ids, "attention_mask": np.arange(total.max()) < total[:, None]}
        feeds |= {"query_seqlens": counts, "logits_indices": np.asarray(pairs)[:, None]} if given is None else given
        binding = self.session.io_binding()
        kept = []  # the arrays must live until the run
        for name, array in feeds.items():
            array = np.ascontiguousarray(array, np.int32 if name == "query_seqlens" else np.int64)
            kept.append(array)
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu")
        for index, past_name in enumerate(self.names):
            view = self.cache[index, : len(new)]
            present_name = past_name.replace("past_key_values", "present")
            binding.bind_input(past_name, "cpu", 0, np.float32, view.shape, view.ctypes.data)
            binding.bind_output(present_name, "cpu", 0, np.float32, view.shape, view.ctypes.data)
        self.session.run_with_iobinding(binding)
        found: np.ndarray = binding.copy_outputs_to_cpu()[0]
        return found


def expected_of(folder: Path, rows: list[list[int]]) -> list[np.ndarray]:
    model = OnnxModel(folder)
    return [model.logits(row) for row in rows]


def check(folder: Path, tolerance: float) -> None:
    runner, expected = Runner(folder, RAGGED), expected_of(folder, ROWS)
    past = [0] * len(ROWS)
    for counts in ([3, 1, 2, 4], [1, 1, 1, 1], [2, 1, 1, 3]):
        new = [row[start : start + count] for row, start, count in zip(ROWS, past, counts, strict=True)]
        found = runner.run(new, past)
        wanted = [logits[start : start + count] for logits, start, count in zip(expected, past, counts, strict=True)]
        np.testing.assert_allclose(found[:, 0], np.concatenate(wanted), rtol=0, atol=tolerance)
        past = [start + count for start, count in zip(past, counts, strict=True)]
    # Tokens that were computed and not taken are computed again from any position.
    past = [start - 1 for start in past]
    found = runner.run([row[start : start + 1] for row, start in zip(ROWS, past, strict=True)], past)
    wanted = [logits[start : start + 1] for logits, start in zip(expected, past, strict=True)]
    np.testing.assert_allclose(found[:, 0], np.concatenate(wanted), rtol=0, atol=tolerance)


@pytest.mark.parametrize("architecture", sorted(EXPORTABLE))
def test_rows_with_several_new_tokens_each(architecture: str, export_of: ExportOf) -> None:
    check(export_of(architecture, Precision.FP32), 1e-5)


def test_quantised_rows(export_of: ExportOf) -> None:
    # One new token takes another kernel than several do, which rounds otherwise.
    check(export_of("LlamaForCausalLM", Precision.INT4), 0.02)


def test_attention_over_a_window(export_of: ExportOf, tmp_path: Path) -> None:
    folder = export_of("LlamaForCausalLM", Precision.FP32)
    for path in folder.iterdir():
        if path.name not in (MODEL, RAGGED):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    model = onnx.load(str(folder / MODEL), load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            (window,) = (entry for entry in node.attribute if entry.name == "local_window_size")
            window.i = 4
    onnx.save(model, str(tmp_path / MODEL))
    assert write_ragged(tmp_path)
    assert not np.allclose(expected_of(tmp_path, ROWS)[0], expected_of(folder, ROWS)[0], atol=1e-3)
    check(tmp_path, 1e-5)


def test_both_inputs_may_be_left_out(export_of: ExportOf) -> None:
    folder = export_of("LlamaForCausalLM", Precision.FP32)
    ragged, plain = Runner(folder, RAGGED), Runner(folder, MODEL)
    first = [row[:3] for row in ROWS]
    last = {"logits_indices": np.asarray([(row, -1) for row in range(len(ROWS))])[:, None]}
    expected = plain.run(first, [0] * 4, {})
    np.testing.assert_allclose(ragged.run(first, [0] * 4, last), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ragged.run(first, [0] * 4, {}), expected[:1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ragged.cache, plain.cache, rtol=0, atol=1e-5)
    one = ragged.run([ROWS[0][3:6]], [3], {})
    np.testing.assert_allclose(one, plain.run([ROWS[0][3:6]], [3], {}), rtol=0, atol=1e-5)


def test_exports_for_gpus_have_the_first_graph_only(export_of: ExportOf) -> None:
    assert not (export_of("LlamaForCausalLM", Precision.BF16) / RAGGED).exists()


def test_the_second_graph_has_no_weights_of_its_own(export_of: ExportOf) -> None:
    folder = export_of("LlamaForCausalLM", Precision.INT4)
    first, second = (onnx.load(str(folder / name), load_external_data=False).graph for name in (MODEL, RAGGED))
    added = {"query_seqlens", "logits_indices", "/model/query_seqlens/one"}
    assert {weight.name for weight in second.initializer} - {weight.name for weight in first.initializer} == added
    kept = {weight.name: weight for weight in first.initializer}
    assert all(weight == kept[weight.name] for weight in second.initializer if weight.name not in added)


def test_a_graph_that_computes_all_logits_is_left_alone(export_of: ExportOf, tmp_path: Path) -> None:
    from tunesmith_trainer.export.graph import with_all_logits

    model = onnx.load(str(export_of("LlamaForCausalLM", Precision.FP32) / MODEL), load_external_data=False)
    onnx.save(with_all_logits(model), str(tmp_path / MODEL))
    assert not write_ragged(tmp_path)
    assert not (tmp_path / RAGGED).exists()
