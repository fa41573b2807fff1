"""Tiny random-weight models, their ONNX exports and artifacts, made on the fly: no download, no fixture files.

Everything is deterministic for a given seed. torch and transformers are imported only where a model is built.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from tunesmith_api.artifact import digest_of_json

Architecture = Literal["llama", "phi3", "qwen2"]

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant'] -%}
{{- raise_exception("unknown role '" + message['role'] + "'") -}}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

CORPUS = [
    "Tunesmith turns one manifest into a fine-tuned, served model.",
    "The quick brown fox jumps over the lazy dog, again and again.",
    "What is the learning rate? The learning rate is the size of each step.",
    "Which field sets the number of epochs? Set spec.training.epochs to a whole number.",
    "Grüße aus Köln: naïve café, œuvre, señor, 東京の朝, привет мир, 🙂🚀 emoji too.",
    "for i in range(10): print(i, i ** 2)\nreturn {'key': [1, 2, 3]}",
]


def train_tokenizer(texts: list[str] | None = None, vocab_size: int = 512) -> Any:
    """A byte-level BPE tokenizer (transformers' PreTrainedTokenizerFast) with chat template and special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(
    folder: Path | str,
    architecture: Architecture = "llama",
    *,
    vocab_size: int = 512,
    hidden_size: int = 64,
    intermediate_size: int = 128,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    context_length: int = 512,
    seed: int = 0,
    initializer_range: float = 0.2,
    tie_word_embeddings: bool = False,
    texts: list[str] | None = None,
) -> Path:
    """Save a random-weight model and its tokenizer to `folder` in the Hugging Face form (safetensors).

    The wide `initializer_range` keeps greedy answers of random weights from repeating one token. The embedding has
    exactly `vocab_size` rows; the tokenizer may know fewer tokens.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, Qwen2Config

    folder = Path(folder)
    tokenizer = train_tokenizer(texts, vocab_size)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    classes = {"llama": LlamaConfig, "phi3": Phi3Config, "qwen2": Qwen2Config}
    config = classes[architecture](
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context_length,
        initializer_range=initializer_range,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    if architecture == "phi3":
        config.original_max_position_embeddings = context_length
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    finally:
        torch.random.set_rng_state(state)
    model.generation_config.eos_token_id = eos
    model.generation_config.pad_token_id = pad
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def export_onnx(
    model_folder: Path | str,
    out_folder: Path | str,
    precision: str = "fp32",
    extra_options: dict[str, str] | None = None,
) -> Path:
    """Export with onnxruntime-genai's model builder; returns `out_folder`/onnx/`precision`."""
    from onnxruntime_genai.models import builder

    target = Path(out_folder) / "onnx" / precision
    target.mkdir(parents=True, exist_ok=True)
    options = [f"{key}={value}" for key, value in (extra_options or {}).items()]
    # In this process, which has imported most of what the builder imports: as a process of its own it takes seconds.
    with tempfile.TemporaryDirectory() as cache:
        given = ("", str(model_folder), str(target), precision, "cpu", cache)
        builder.create_model(*given, **builder.parse_extra_options(*given, options))
    return target


def write_manifest(folder: Path | str, name: str = "tiny", **fields: Any) -> Path:
    """Write manifest.json, last, over whatever the artifact folder holds now; `fields` are added to it."""
    folder = Path(folder)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "manifest.json"):
        data = path.read_bytes()
        files[path.relative_to(folder).as_posix()] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    onnx = folder / "onnx"
    manifest = {
        "formatVersion": 1,
        "name": name,
        "model": {"base": "scratch"},
        "precisions": sorted(p.name for p in onnx.iterdir()) if onnx.is_dir() else [],
        "files": files,
        "digest": digest_of_json({name: entry["sha256"] for name, entry in files.items()}),
        **fields,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return folder


def make_artifact(
    folder: Path | str,
    architecture: Architecture = "llama",
    precisions: tuple[str, ...] = ("fp32",),
    *,
    name: str = "tiny",
    model_folder: Path | str | None = None,
    **model_options: Any,
) -> Path:
    """An artifact at `folder`: `onnx/<precision>/` each, then manifest.json.

    The Hugging Face model it was made from is `model_folder` where given, else it is built at `folder`.hf.
    """
    folder = Path(folder)
    if model_folder is None:
        model_folder = build_model(folder.with_name(folder.name + ".hf"), architecture, **model_options)
    for precision in precisions:
        export_onnx(model_folder, folder, precision)
    return write_manifest(folder, name)


def copy_artifact(source: Path, target: Path) -> Path:
    """A writable copy, for tests that damage one."""
    return Path(shutil.copytree(source, target))
