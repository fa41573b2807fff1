"""The languages of a job: T5's prefix that names them, and the codes by which NLLB and mBART mark texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import TranslationSpec
from tunesmith_trainer.data.targets import Facts

_SHOWN = 5


def settled(facts: Facts, config: Mapping[str, Any], tokenizer: Any, settings: TranslationSpec) -> Facts:  # noqa: ANN401
    """Return the facts with the prefix, after checking that the model knows the languages.

    Args:
        facts: `{sourceLanguage, targetLanguage}`.
        config: The base model's config.json.
        tokenizer: Its tokenizer.
        settings: What the spec says.

    Raises:
        StageError: INVALID_SPEC, with what to write instead.
    """
    if marks_languages(tokenizer):
        for name in ("sourceLanguage", "targetLanguage"):
            _require_code(tokenizer, name, facts.get(name))
    prefix = settings.prefix
    if prefix is None:
        prefix = default_prefix(facts) if config.get("model_type") == "t5" else ""
    return {**facts, "prefix": prefix}


def default_prefix(facts: Facts) -> str:
    """Return what T5 was trained with before a source, "translate German to English: "; empty for unknown languages."""
    names = [language_name(facts.get(name)) for name in ("sourceLanguage", "targetLanguage")]
    return f"translate {names[0]} to {names[1]}: " if all(names) else ""


def language_name(code: str | None) -> str | None:
    """Return the English name of a language by its code of two letters, also with a country: German for de or de-AT."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    name = LANGUAGES.get((code or "").replace("_", "-").split("-")[0].lower())
    return None if name is None else name.title()


def marks_languages(tokenizer: Any) -> bool:  # noqa: ANN401 - a transformers tokenizer
    """Return whether a tokenizer adds the language's code to each text, as those of NLLB and mBART do."""
    return hasattr(tokenizer, "set_src_lang_special_tokens")


def use_languages(tokenizer: Any, facts: Facts) -> None:  # noqa: ANN401 - a transformers tokenizer
    """Let a tokenizer mark texts with the languages of a job, if it does so at all."""
    if marks_languages(tokenizer):
        tokenizer.src_lang, tokenizer.tgt_lang = facts["sourceLanguage"], facts["targetLanguage"]


def first_tokens(tokenizer: Any, facts: Facts) -> dict[str, int]:  # noqa: ANN401 - a transformers tokenizer
    """Return the fields of generation_config.json by which answers begin with the target's language.

    mBART's first generation has the language as the decoder's start token, all others as the first token of the answer.
    """
    code = int(tokenizer.convert_tokens_to_ids(facts["targetLanguage"]))
    suffixed = getattr(tokenizer, "suffix_tokens", [])
    is_suffix = bool(suffixed) and suffixed[-1] == tokenizer.cur_lang_code
    return {"decoder_start_token_id": code} if is_suffix else {"forced_bos_token_id": code}


def _require_code(tokenizer: Any, name: str, code: str | None) -> None:  # noqa: ANN401
    """Fail if a tokenizer does not know a language."""
    known = sorted(_codes(tokenizer))
    if code in known:
        return
    near = [other for other in known if code and other[:2] == code[:2].lower()][:_SHOWN] or known[:_SHOWN]
    what = "is not named" if code is None else f"is {code}, which the model does not know"
    raise StageError(
        Reason.INVALID_SPEC,
        f"spec.translation.{name} {what}: the model marks texts with the code of their language",
        f"Write one of its codes, such as {', '.join(near)}; if the rows have other names for their languages, also "
        "spec.dataset.columns, for example {source: translation.de, target: translation.en}",
    )


def _codes(tokenizer: Any) -> list[str]:  # noqa: ANN401
    """Return the special tokens that look like the code of a language: `deu_Latn`, `de_DE`."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [token for token in {*added, *tokenizer.all_special_tokens} if token[:2].isalpha() and "_" in token]
