"""What task.json, config.json and generation_config.json say about a translation model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.runtime.errors import ArtifactError


@dataclass(frozen=True)
class TaskSettings:
    """What the model was trained for, from task.json.

    Attributes:
        max_length: The most tokens of a translation for which a request gives no number.
        prefix: What the model expects before each source text, such as "translate German to English: ".
        source_language: The language of the source texts, as the training data named it; None if it named none.
        target_language: That of the translations.
    """

    max_length: int
    prefix: str = ""
    source_language: str | None = None
    target_language: str | None = None

    @classmethod
    def read(cls, artifact: Artifact) -> TaskSettings:
        """Read task.json.

        Raises:
            ArtifactError: A value is missing or of a wrong kind.
        """
        task = artifact.read_json("task.json")
        length: Any = task.get("maxLength")
        prefix: Any = task.get("prefix") or ""
        languages = [task.get(name) for name in ("sourceLanguage", "targetLanguage")]
        if not _is_count(length) or not isinstance(prefix, str):
            raise _unusable(artifact, "task.json", "maxLength" if isinstance(prefix, str) else "prefix")
        if not all(language is None or isinstance(language, str) for language in languages):
            raise _unusable(artifact, "task.json", "sourceLanguage and targetLanguage")
        return cls(length, prefix, *languages)


@dataclass(frozen=True)
class DecodingSettings:
    """How the decoder starts and ends, from generation_config.json; as transformers' `generate` reads it.

    Attributes:
        start: The token that each answer begins after.
        stop: The tokens that end an answer.
        pad: Fills the shorter sources of a batch, where the attention mask is 0.
        forced_bos: The first token of each answer, such as the code of the target language; None forces none.
        forced_eos: The last token of an answer that is cut off at its longest; None forces none.
        suppressed: Tokens that are never generated.
        positions: The most tokens that the model has positions for; None for any number.
    """

    start: int
    stop: frozenset[int]
    pad: int
    forced_bos: int | None = None
    forced_eos: int | None = None
    suppressed: tuple[int, ...] = ()
    positions: int | None = None

    @classmethod
    def read(cls, artifact: Artifact) -> DecodingSettings:
        """Read config.json and generation_config.json, which goes first.

        Raises:
            ArtifactError: A token is missing, or of a wrong kind.
        """
        found = {**artifact.read_json("config.json"), **_without_none(artifact.read_json("generation_config.json"))}
        eos: Any = found.get("eos_token_id")
        stop: list[Any] = eos if isinstance(eos, list) else [eos]
        forced = {name: found.get(f"forced_{name}_token_id") for name in ("bos", "eos")}
        needed: dict[str, Any] = {
            "decoder_start_token_id": found.get("decoder_start_token_id"),
            "pad_token_id": _pad(found),
        }
        for name, value in needed.items():
            if not _is_token(value):
                raise _unusable(artifact, "generation_config.json", name)
        if not stop or not all(map(_is_token, stop)):
            raise _unusable(artifact, "generation_config.json", "eos_token_id")
        for name, value in forced.items():
            if value is not None and not _is_token(value):
                raise _unusable(artifact, "generation_config.json", f"forced_{name}_token_id")
        positions = found.get("max_position_embeddings")
        return cls(
            start=needed["decoder_start_token_id"],
            stop=frozenset(stop),
            pad=needed["pad_token_id"],
            forced_bos=forced["bos"],
            forced_eos=forced["eos"],
            suppressed=_suppressed(artifact, found),
            positions=positions if _is_count(positions) else None,
        )


def _suppressed(artifact: Artifact, found: dict[str, Any]) -> tuple[int, ...]:
    words = found.get("bad_words_ids") or []
    tokens = list(found.get("suppress_tokens") or [])
    for word in words:
        if not isinstance(word, list) or len(word) != 1:
            raise ArtifactError(
                f"{artifact.onnx / 'generation_config.json'} forbids words of several tokens (bad_words_ids), which "
                "this server does not: remove them there before training, and publish the model again"
            )
        tokens += word
    if not all(map(_is_token, tokens)):
        raise _unusable(artifact, "generation_config.json", "bad_words_ids or suppress_tokens")
    return tuple(sorted(set(tokens)))


def _pad(found: dict[str, Any]) -> object:
    """Return the token that fills up sources; the model never sees it, so any token will do."""
    pad = found.get("pad_token_id")
    return 0 if pad is None else pad


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_count(value: object) -> bool:
    return _is_token(value) and value != 0


def _unusable(artifact: Artifact, file: str, name: str) -> ArtifactError:
    return ArtifactError(f"{artifact.onnx / file} has no usable {name}; export the model again")
