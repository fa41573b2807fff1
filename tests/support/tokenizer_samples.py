"""Small tokenizers of the kinds that models have, made on the fly."""

import json
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

Kind = Literal["byte-level", "byte-fallback", "unigram"]
CORPUS = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Grüße aus Köln: naïve café, 東京の朝, привет мир, 🙂🚀 emoji too.",
    "{\"name\": \"value\", \"list\": [1, 2, 3], \"ok\": true, \"none\": null}\nreturn {'key': [10, 2.5]}",
]  # fmt: skip
STOP = "<|im_end|>"
# One that ends an answer, one that no text holds, one that a text may hold.
ADDED = [AddedToken(STOP, special=True), AddedToken("[TOOL_CALLS]", special=True), AddedToken("<tool_call>")]


def definition(kind: Kind, vocab_size: int = 420) -> str:
    """The text of a tokenizer.json."""
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        if kind == "unigram":
            tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Replace(Regex(" "), "\u2581")
        steps = [decoders.Replace("\u2581", " ")]
        if kind == "byte-fallback":
            steps += [decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.decoder = decoders.Sequence(steps)
        special = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)] * (kind == "byte-fallback")
        options = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False}
        trainer = (
            trainers.UnigramTrainer(**options, unk_token="<unk>")
            if kind == "unigram"
            else trainers.BpeTrainer(**options, max_token_length=8)
        )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    if kind == "byte-fallback":
        tokenizer = _without_special_bytes(tokenizer)
    tokenizer.add_tokens(ADDED)
    text: str = tokenizer.to_str()
    return text


def _without_special_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The bytes are ordinary tokens of the vocabulary, as in tokenizers that came from SentencePiece."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] == "<unk>"]
    return Tokenizer.from_str(json.dumps(data))
