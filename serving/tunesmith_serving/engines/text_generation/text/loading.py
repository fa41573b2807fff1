"""Loading an artifact's tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.text_generation.text.template import ChatTemplate, load_chat_template
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer


def load_text(
    artifact: Artifact, now: Callable[[], datetime] = datetime.now
) -> tuple[Tokenizer, ChatTemplate | None, frozenset[int]]:
    """Return the tokenizer, the chat template if there is one, and the EOS token of the tokenizer's configuration.

    Args:
        artifact: The artifact.
        now: Returns the time for chat templates that write the date.

    Raises:
        ArtifactError: The tokenizer or the template cannot be loaded.
    """
    config = artifact.read_json("tokenizer_config.json")
    tokenizer = Tokenizer(artifact.read_text("tokenizer.json") or "")
    template = load_chat_template(artifact.read_text("chat_template.jinja"), config, now)
    eos = config.get("eos_token")
    name = eos.get("content") if isinstance(eos, dict) else eos
    index = tokenizer.token_id(name) if isinstance(name, str) else None
    return tokenizer, template, frozenset() if index is None else frozenset({index})
