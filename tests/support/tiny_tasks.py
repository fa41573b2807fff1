"""Tiny random-weight models of all families of the tasks, with tokenizers that are trained on the fly.

Everything is deterministic for a given seed but Unigram's vocabularies, whose trainer breaks ties at random. torch and
transformers are imported only where a model is built.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from support.tiny_models import CORPUS
from support.tiny_pieces import word_piece

Family = Literal[
    "bert",
    "distilbert",
    "roberta",
    "modernbert",
    "xlm-roberta",
    "deberta-v2",
    "llama",
    "qwen2",
    "qwen3",
    "phi3",
    "mistral",
    "gemma",
    "t5",
    "mt5",
    "marian",
    "m2m_100",
]

ENCODERS: tuple[Family, ...] = ("bert", "distilbert", "roberta", "modernbert", "xlm-roberta", "deberta-v2")
DECODERS: tuple[Family, ...] = ("llama", "qwen2", "qwen3", "phi3", "mistral", "gemma")
TRANSLATORS: tuple[Family, ...] = ("t5", "mt5", "marian", "m2m_100")

_WORDPIECE = ("bert", "distilbert")
_BYTES = ("roberta", "modernbert", *DECODERS)


def train_task_tokenizer(family: Family, texts: Sequence[str] | None = None, vocab_size: int = 300) -> Any:
    """A tokenizer (transformers, fast) of the kind that a family has: WordPiece, byte-level BPE or Unigram."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    lines = list(texts or CORPUS * 4)
    if family in _WORDPIECE:
        named = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        own = Tokenizer(word_piece(normalizer, pre_tokenizer, lines, list(named.values()), vocab_size))
        own.normalizer, own.pre_tokenizer = normalizer, pre_tokenizer
        own.decoder = decoders.WordPiece()
        trainer: Any = None  # it would break ties by a hash that differs from process to process
    elif family in _BYTES:
        if family == "roberta":
            named = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
        elif family == "modernbert":
            named = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        else:
            named = {"pad": "<|endoftext|>", "eos": "<|im_end|>"}
        own = Tokenizer(models.BPE())
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=family == "roberta")
        own.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max(vocab_size, 270),
            special_tokens=list(dict.fromkeys(named.values())),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        if family == "deberta-v2":
            named = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
        elif family in ("t5", "mt5", "marian"):
            named = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
        else:
            named = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
        own = Tokenizer(models.Unigram())
        own.normalizer = normalizers.NFKC()
        own.pre_tokenizer = pre_tokenizers.Metaspace()
        own.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size,
            special_tokens=list(dict.fromkeys(named.values())),
            unk_token=named["unk"],
            show_progress=False,
        )
    if trainer is not None:
        own.train_from_iterator(lines, trainer)
    own.post_processor = _frame(own, family)
    return PreTrainedTokenizerFast(
        tokenizer_object=own, model_max_length=128, **{f"{name}_token": token for name, token in named.items()}
    )


def _frame(own: Any, family: Family) -> Any:
    """What a tokenizer of a family puts around a text and between two of them."""
    from tokenizers import processors

    if family in DECODERS:
        return processors.ByteLevel(trim_offsets=False)
    if family in ("t5", "mt5", "marian"):
        frame = ("$A </s>", "$A </s> $B </s>")
    elif family == "m2m_100":  # the language that comes first is a token of its own in the real one
        frame = ("$A </s>", "$A $B </s>")
    elif family in ("roberta", "xlm-roberta"):
        frame = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
    elif family == "deberta-v2" or family == "modernbert":
        frame = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
    else:
        frame = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    tokens = ["[CLS]", "[SEP]", "<s>", "</s>"]
    known = [(token, own.token_to_id(token)) for token in tokens if own.token_to_id(token) is not None]
    return processors.TemplateProcessing(single=frame[0], pair=frame[1], special_tokens=known)


def build_task_model(
    folder: Path | str,
    family: Family,
    head: str | None = None,
    *,
    texts: Sequence[str] | None = None,
    vocab_size: int = 300,
    hidden_size: int = 32,
    layers: int = 2,
    dtype: str = "float32",
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Save a random-weight model and its tokenizer to `folder` in the transformers layout (safetensors).

    Args:
        folder: The folder.
        family: The family.
        head: The last part of the class's name, such as `Model`, `ForMaskedLM` or `ForSequenceClassification`; that of
            the family's language model if it is None.
        texts: What the tokenizer is trained on.
        vocab_size: Most tokens.
        hidden_size: Width of the layers.
        layers: Layers; of encoder and decoder each.
        dtype: Number format of the weights.
        seed: Seed of the weights.
        settings: More fields of the configuration.
    """
    import torch
    import transformers

    folder = Path(folder)
    tokenizer = train_task_tokenizer(family, texts, vocab_size)
    config = task_config(family, tokenizer, hidden_size, layers, **settings)
    default = (
        "ForMaskedLM" if family in ENCODERS else "ForCausalLM" if family in DECODERS else "ForConditionalGeneration"
    )
    name = head or ("MTModel" if family == "marian" else default)
    stem = type(config).__name__.removesuffix("Config")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{stem}{name}")._from_config(config, dtype=getattr(torch, dtype)).eval()
        for parameter in model.parameters():  # new models have zeros and ones where trained ones have neither
            if parameter.dim() == 1:
                parameter.data += torch.randn(parameter.shape).to(parameter.dtype) * 0.1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def task_config(family: Family, tokenizer: Any, hidden_size: int = 32, layers: int = 2, **settings: Any) -> Any:
    """The configuration of a tiny model of a family."""
    import transformers

    heads, wide = 4, 2 * hidden_size
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2}
    sizes = {
        "hidden_size": hidden_size,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 128,
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if family == "bert":
        return transformers.BertConfig(**{**common, **sizes, **settings})
    if family in ("roberta", "xlm-roberta"):
        kind = transformers.RobertaConfig if family == "roberta" else transformers.XLMRobertaConfig
        own = {"max_position_embeddings": 128 + tokenizer.pad_token_id + 1, "type_vocab_size": 1}
        return kind(**{**common, **sizes, **own, **ends, **settings})
    if family == "distilbert":
        own = {"dim": hidden_size, "hidden_dim": wide, "n_layers": layers, "n_heads": heads}
        return transformers.DistilBertConfig(**{**common, "max_position_embeddings": 128, **own, **settings})
    if family == "deberta-v2":
        own = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 0}
        own |= {"position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
        own |= {"pooler_hidden_size": hidden_size}
        return transformers.DebertaV2Config(**{**common, **sizes, **own, **settings})
    if family == "modernbert":
        own = {"local_attention": 8, "global_attn_every_n_layers": 2, "reference_compile": False}
        own |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        own |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
        return transformers.ModernBertConfig(**{**common, **sizes, **own, **settings})
    if family in DECODERS:
        classes = {
            "llama": "Llama",
            "qwen2": "Qwen2",
            "qwen3": "Qwen3",
            "phi3": "Phi3",
            "mistral": "Mistral",
            "gemma": "Gemma",
        }
        own = {"num_key_value_heads": 2, "tie_word_embeddings": family == "gemma", **ends}
        own |= {"head_dim": hidden_size // heads} if family in ("qwen3", "gemma") else {}
        own |= {"sliding_window": None} if family == "mistral" else {}
        own |= {"original_max_position_embeddings": 128} if family == "phi3" else {}
        return getattr(transformers, f"{classes[family]}Config")(**{**common, **sizes, **own, **settings})
    if family in ("t5", "mt5"):
        kind = transformers.T5Config if family == "t5" else transformers.MT5Config
        own = {"d_model": hidden_size, "d_kv": hidden_size // heads, "d_ff": wide, "num_layers": layers}
        own |= {"num_heads": heads, "decoder_start_token_id": tokenizer.pad_token_id}
        own |= {"eos_token_id": tokenizer.eos_token_id, "initializer_factor": 1.0}
        own |= {"feed_forward_proj": "relu"} if family == "t5" else {"tie_word_embeddings": False}
        del common["initializer_range"]
        return kind(**{**common, **own, **settings})
    kind = transformers.MarianConfig if family == "marian" else transformers.M2M100Config
    own = {"d_model": hidden_size, "encoder_layers": layers, "decoder_layers": layers, "init_std": 0.2}
    own |= {"encoder_attention_heads": heads, "decoder_attention_heads": heads}
    own |= {"encoder_ffn_dim": wide, "decoder_ffn_dim": wide, "max_position_embeddings": 128}
    start = tokenizer.pad_token_id if family == "marian" else tokenizer.eos_token_id
    own |= {"decoder_start_token_id": start, "eos_token_id": tokenizer.eos_token_id}
    own |= {"forced_eos_token_id": None} if family == "marian" else {}
    del common["initializer_range"]
    return kind(**{**common, **own, **settings})
