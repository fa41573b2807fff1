"""Exports of all families compute what transformers computes, with the cache and in padded batches."""

import json

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, MBartConfig

from support.tiny_tasks import TRANSLATORS, train_task_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.evaluate.encoder_decoder import greedy
from tunesmith_trainer.export.bounds import require_parity
from tunesmith_trainer.export.encoder_decoder import reference
from tunesmith_trainer.export.encoder_decoder.exporter import EncoderDecoderExporter
from tunesmith_trainer.export.encoder_decoder.graphs import join
from tunesmith_trainer.export.encoder_decoder.parity import compare
from tunesmith_trainer.export.encoder_decoder.runner import EncoderDecoder
from tunesmith_trainer.models.loading import load_model

SOURCES = [[7, 8, 9], [5], list(range(5, 95)), list(range(40, 60))]
TARGETS = np.random.default_rng(1).integers(5, 100, (len(SOURCES), 90))
PARTS = (1, 1, 2, 40, 1, 45)


def loaded(folder):
    return load_model(folder, AutoModelForSeq2SeqLM)


def padded(pad):
    width = max(map(len, SOURCES))
    ids = torch.tensor([source + [pad] * (width - len(source)) for source in SOURCES])
    return ids, torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in SOURCES])


@pytest.mark.parametrize("family", TRANSLATORS)
@pytest.mark.parametrize("rows", [[0], [1], [2], [0, 1, 2, 3]])
def test_logits_are_those_of_torch_however_targets_are_cut_into_steps(family, rows, translator_of, translation_of):
    model, exported = loaded(translator_of(family)), EncoderDecoder(translation_of(family, Precision.FP32))
    ids, mask = padded(exported.pad)
    with torch.no_grad():
        inputs = torch.tensor(TARGETS[rows])
        expected = model(
            input_ids=ids[rows], attention_mask=mask[rows], decoder_input_ids=inputs, use_cache=False
        ).logits
    batch, found, at = exported.encode([SOURCES[row] for row in rows]), [], 0
    for size in PARTS:
        found.append(exported.step(batch, TARGETS[rows, at : at + size]))
        at += size
    np.testing.assert_allclose(np.concatenate(found, 1), expected.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_greedy_answers_are_those_of_transformers(family, translator_of, translation_of):
    model, exported = loaded(translator_of(family)), EncoderDecoder(translation_of(family, Precision.FP32))
    if family == "m2m_100":  # NLLB's answers begin with their language
        model.generation_config.forced_bos_token_id = exported.start[0] + 40
        exported.start, exported.forced = [*exported.start, exported.start[0] + 40], 1
    limits = [12, 1, 12, 7]
    own = greedy(model, SOURCES, limits)
    ids, mask = padded(exported.pad)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=exported.start[0],
        forced_bos_token_id=exported.start[1] if exported.forced else None,
        eos_token_id=list(exported.stop),
        pad_token_id=exported.pad,
        suppress_tokens=[exported.pad],
        max_new_tokens=12,
        use_cache=family != "t5",
    )
    expected = []
    for row, limit in zip(model.generate(input_ids=ids, attention_mask=mask)[:, 1:].tolist(), limits, strict=True):
        end = next((place for place, token in enumerate(row) if token in exported.stop), len(row))
        expected.append(row[: min(end, limit)])
    assert own == expected
    assert exported.greedy(SOURCES, limits) == expected
    assert len({tuple(answer) for answer in expected}) > 1


@pytest.mark.parametrize("family", TRANSLATORS)
def test_parity_is_measured_and_bounded(family, translator_of, translation_of, pairs, tmp_path):
    model = loaded(translator_of(family))
    reference.record(model, pairs, 8, tmp_path)
    numbers = compare(translation_of(family, Precision.FP32), tmp_path, 1e-3)
    assert numbers["maxLogitDifference"] < 1e-4
    assert numbers["greedyAgreement"] == numbers["nextTokenAgreement"] == 1
    assert numbers["greedyAgreementTokens"] == 8 * 32
    require_parity(Precision.FP32, numbers, ParitySpec())
    rounded = compare(translation_of(family, Precision.INT8), tmp_path, 1e-3)
    assert numbers["maxLogitDifference"] < rounded["maxLogitDifference"]
    require_parity(Precision.INT8, rounded, ParitySpec(min_next_token_agreement=0.7))


def test_mbart_is_exported_too(pairs, tmp_path):
    tokenizer = train_task_tokenizer("m2m_100")
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_model": 32, "max_position_embeddings": 128}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = MBartConfig(vocab_size=len(tokenizer), init_std=0.2, decoder_start_token_id=50, **sizes, **ends)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    reference.record(loaded(tmp_path / "model"), pairs, 4, tmp_path / "reference")
    EncoderDecoderExporter({"task": "translation"}).export(tmp_path / "model", tmp_path / "fp32", Precision.FP32)
    numbers = compare(tmp_path / "fp32", tmp_path / "reference", 1e-3)
    assert numbers["maxLogitDifference"] < 1e-4
    require_parity(Precision.FP32, numbers, ParitySpec())


def test_an_export_of_other_weights_is_refused(translator_of, translation_of, pairs, tmp_path):
    model = loaded(translator_of("marian"))
    with torch.no_grad():
        model.model.decoder.layers[1].encoder_attn.v_proj.weight *= 1.1
    reference.record(model, pairs, 8, tmp_path)
    numbers = compare(translation_of("marian", Precision.FP32), tmp_path, 1e-3)
    with pytest.raises(StageError, match="maxLogitDifference"):
        require_parity(Precision.FP32, numbers, ParitySpec())


def test_int8_has_whole_numbers_in_the_linear_layers_alone(translation_of):
    folder = translation_of("t5", Precision.INT8)
    weights = onnx.load(folder / "decoder.onnx").graph.initializer
    whole = [weight for weight in weights if weight.data_type == onnx.TensorProto.UINT8 and len(weight.dims) == 2]
    # Of 3 layers: q, k, v, o of self-attention, q and o of cross-attention, wi and wo; and the output layer.
    assert len(whole) == 3 * 8 + 1
    assert json.loads((folder / "task.json").read_text()) == {"task": "translation"}


def test_weights_in_many_files_become_one(translation_of, tmp_path):
    written, folder = tmp_path / "parts", tmp_path / "onnx"
    written.mkdir()
    folder.mkdir()
    for path in translation_of("t5", Precision.FP32).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    onnx.save(
        onnx.load(folder / "decoder.onnx"),
        written / "decoder.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    expected = EncoderDecoder(folder).greedy(SOURCES, [5] * 4)
    assert len(list(written.iterdir())) > 10
    join(written / "decoder.onnx", folder / "decoder.onnx")
    assert sorted(path.name for path in folder.glob("decoder*")) == ["decoder.onnx", "decoder.onnx.data"]
    assert EncoderDecoder(folder).greedy(SOURCES, [5] * 4) == expected
