"""Tiny random T5 and Marian models and their artifacts, in the layout that the translation task exports."""

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


def make_translator(
    folder: Path,
    architecture: str = "t5",
    languages: bool = False,
    prefix: str = "",
    precisions: tuple[str, ...] = ("fp32",),
) -> Path:
    """An artifact at `folder` for the task translation; the model that it was made from is at `folder`.hf."""
    from transformers import GenerationConfig

    from tunesmith_api.spec import Precision
    from tunesmith_trainer.export.encoder_decoder.exporter import EncoderDecoderExporter

    source = build_translator(folder.with_name(folder.name + ".hf"), architecture, languages)
    codes = LANGUAGES[:2] if languages else (None, None)
    settings = {"task": "translation", "maxLength": MAX_LENGTH, "prefix": prefix}
    exporter = EncoderDecoderExporter({**settings, "sourceLanguage": codes[0], "targetLanguage": codes[1]})
    for precision in precisions:
        target = folder / "onnx" / precision
        target.parent.mkdir(parents=True, exist_ok=True)
        exporter.export(source, target, Precision(precision))
        # That of the model itself: it has forced and forbidden tokens besides.
        GenerationConfig.from_pretrained(source).save_pretrained(target)
    return write_manifest(folder, task="translation")
