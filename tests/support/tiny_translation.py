"""Tiny random T5 and Marian models and their artifacts, in the layout that the translation task exports."""

import json
from pathlib import Path
from typing import Any

from support.tiny_models import CORPUS, write_manifest

LANGUAGES = ("deu_Latn", "eng_Latn", "fra_Latn")
MAX_LENGTH = 48


def train_unigram(languages: bool = False) -> Any:
    """A Unigram tokenizer with spaces as U+2581 and `</s>` after each text, as T5 and NLLB have.

    Args:
        languages: Whether a text begins with the code of its language, as with NLLB.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    codes = list(LANGUAGES) if languages else []
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens(codes)
    special = [(token, tokenizer.token_to_id(token)) for token in ("</s>", *codes)]
    single = f"{codes[0]} $A </s>" if codes else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    )


def build_translator(folder: Path, architecture: str = "t5", languages: bool = False, seed: int = 0) -> Path:
    """Save a random T5, gated mT5 or Marian with its tokenizer, in the form of Hugging Face."""
    import torch
    from transformers import MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration

    tokenizer = train_unigram(languages)
    size = len(tokenizer)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model: Any
        if architecture == "marian":
            model = MarianMTModel(
                MarianConfig(
                    vocab_size=size, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                    decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256,
                    pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=pad, forced_eos_token_id=eos,
                    init_std=0.6, scale_embedding=True,
                )
            )  # fmt: skip
            model.generation_config.bad_words_ids = [[pad]]
            model.final_logits_bias.uniform_(-1, 1)
        else:
            model = T5ForConditionalGeneration(
                T5Config(
                    vocab_size=size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=4,
                    pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=pad, initializer_factor=2.0,
                    feed_forward_proj="gated-gelu" if architecture == "mt5" else "relu",
                )
            )  # fmt: skip
    finally:
        torch.random.set_rng_state(state)
    if languages:
        model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(LANGUAGES[1])
    model.generation_config.max_length = None
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def export_translator(source: Path, target: Path) -> None:
    """Write encoder.onnx and decoder.onnx of a saved model, and the small files beside them."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

    target.mkdir(parents=True, exist_ok=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(source, attn_implementation="eager").eval()
    encoder, decoder = _wrappers(model)
    layers = range(decoder.layers)
    cross = [f"encoder.{layer}.{part}" for layer in layers for part in ("key", "value")]
    past = [f"past.{layer}.{part}" for layer in layers for part in ("key", "value")]
    present = [f"present.{layer}.{part}" for layer in layers for part in ("key", "value")]
    ids, mask = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    source_axes = {0: "batch", 1: "source"}
    with torch.no_grad():
        found = encoder(ids, mask)
        torch.onnx.export(
            encoder, (ids, mask), str(target / "encoder.onnx"), dynamo=False, opset_version=18,
            input_names=["input_ids", "attention_mask"], output_names=cross,
            dynamic_axes={"input_ids": source_axes, "attention_mask": source_axes}
            | {name: {0: "batch", 2: "source"} for name in cross},
        )  # fmt: skip
        empty = [torch.randn(2, value.shape[1], 3, value.shape[3]) for value in found]
        torch.onnx.export(
            decoder, (torch.ones(2, 2, dtype=torch.int64), mask, *empty, *found), str(target / "decoder.onnx"),
            dynamo=False, opset_version=18, input_names=["input_ids", "encoder_attention_mask", *past, *cross],
            output_names=["logits", *present],
            dynamic_axes={"input_ids": {0: "batch", 1: "tokens"}, "encoder_attention_mask": source_axes}
            | {name: {0: "batch", 2: "source"} for name in cross}
            | {name: {0: "batch", 2: "past"} for name in past}
            | {"logits": {0: "batch", 1: "tokens"}}
            | {name: {0: "batch", 2: "total"} for name in present},
        )  # fmt: skip
    AutoConfig.from_pretrained(source).save_pretrained(target)
    GenerationConfig.from_pretrained(source).save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)


def _wrappers(model: Any) -> tuple[Any, Any]:
    """Return modules whose inputs and outputs are tensors only."""
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    stack = model.get_decoder()
    if model.config.model_type == "marian":
        attentions = [layer.encoder_attn for layer in stack.layers]
        projections = [(attention.k_proj, attention.v_proj) for attention in attentions]
        heads, scale = model.config.decoder_attention_heads, 1.0
    else:
        attentions = [block.layer[1].EncDecAttention for block in stack.block]
        projections = [(attention.k, attention.v) for attention in attentions]
        heads = model.config.num_heads
        scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, ...]:
            hidden = self.model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            batch, length = input_ids.shape
            return tuple(
                part(hidden).view(batch, length, heads, -1).transpose(1, 2) for pair in projections for part in pair
            )

    class Decoder(torch.nn.Module):
        layers = len(attentions)

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, encoder_attention_mask: Any, *states: Any) -> tuple[Any, ...]:
            count = 2 * self.layers
            past, cross = states[:count], states[count:]
            cache = EncoderDecoderCache(_cache(past), _cache(cross))
            cache.is_updated = dict.fromkeys(range(self.layers), True)
            batch, length = encoder_attention_mask.shape
            out = self.model.get_decoder()(
                input_ids=input_ids,
                encoder_hidden_states=torch.zeros(batch, length, self.model.config.d_model),
                encoder_attention_mask=encoder_attention_mask,
                past_key_values=cache,
                use_cache=True,
            )
            logits = self.model.lm_head(out.last_hidden_state * scale)
            if hasattr(self.model, "final_logits_bias"):
                logits = logits + self.model.final_logits_bias
            present = cache.self_attention_cache.layers
            return (logits, *(value for layer in present for value in (layer.keys, layer.values)))

    def _cache(states: Any) -> Any:
        cache = DynamicCache()
        for index in range(len(states) // 2):
            cache.update(states[2 * index], states[2 * index + 1], index)
        return cache

    return Encoder().eval(), Decoder().eval()


def make_translator(
    folder: Path, architecture: str = "t5", languages: bool = False, prefix: str = "", seed: int = 0
) -> Path:
    """An artifact at `folder` for the task translation; the model that it was made from is at `folder`.hf."""
    source = build_translator(folder.with_name(folder.name + ".hf"), architecture, languages, seed)
    target = folder / "onnx" / "fp32"
    export_translator(source, target)
    codes = {"sourceLanguage": LANGUAGES[0], "targetLanguage": LANGUAGES[1]} if languages else {}
    task = {"task": "translation", "maxLength": MAX_LENGTH, "prefix": prefix, **codes}
    (target / "task.json").write_text(json.dumps({"sourceLanguage": None, "targetLanguage": None, **task}))
    return write_manifest(folder, task="translation")
