"""The engine's greedy tokens are those of transformers' generate."""

from pathlib import Path

import pytest

from support.tiny_models import Architecture, build_model, export_onnx, write_manifest
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig

PROMPTS = [
    "Tunesmith turns",
    "What is the learning rate?",
    "a",
    "Grüße aus Köln",
    "The quick brown fox jumps over the lazy dog, again and again. The quick brown fox jumps.",
    "Which field sets the number of epochs?",
    "x = [1, 2, 3]",
    "emoji 🙂 東京",
    "def f(x): return",
    "hello world",
]


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("llama", {}), ("phi3", {}), ("qwen2", {}), ("llama", {"prune_lm_head": "true"})],
    ids=["llama", "phi3", "qwen2", "llama-last-logits-only"],
)
def test_greedy_tokens_equal_transformers(architecture: Architecture, options: dict[str, str], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build_model(tmp_path / "hf", architecture)
    export_onnx(folder, tmp_path / "artifact", extra_options=options)
    artifact = write_manifest(tmp_path / "artifact")
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Chunks of 8: most prompts here need several.
    config = ServingConfig(precision="fp32", max_batch_size=4, threads=1, prefill_chunk=8, context_length=256)
    loaded = TextGenerationEngine.load(open_artifact(artifact, "fp32"), config)
    answers = set()
    try:
        for prompt in PROMPTS:
            ids = loaded.tokenizer.encode(prompt, add_special_tokens=True)
            assert ids == tokenizer(prompt).input_ids
            expected = reference.generate(torch.tensor([ids]), max_new_tokens=32, do_sample=False)[0, len(ids) :]
            request = GenerationRequest(tuple(ids), SamplingParams(max_tokens=32, temperature=0))
            completion = loaded.batcher.generate(request, timeout=300)
            assert list(completion.token_ids) == expected.tolist()
            assert completion.text == tokenizer.decode(expected, skip_special_tokens=True)
            answers.add(completion.token_ids)
    finally:
        loaded.close()
    assert len(answers) == len(PROMPTS), "a model that always says the same shows nothing"


def test_chat_prompt_equals_transformers(hf_llama: Path, load: object) -> None:
    from transformers import AutoTokenizer

    loaded = load()  # type: ignore[operator]
    tokenizer = AutoTokenizer.from_pretrained(hf_llama)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "again <&> 'quoted'"},
    ]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert loaded.template.render(messages) == expected
    ids = loaded.tokenizer.encode(expected, add_special_tokens=False)
    assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
