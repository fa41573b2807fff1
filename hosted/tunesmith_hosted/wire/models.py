"""Models as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any


def model_object(id: str, created: int, owned_by: str) -> dict[str, Any]:
    """Return a model.

    Args:
        id: Its public name.
        created: Unix seconds.
        owned_by: `system` for a base model, the organisation's name for a fine-tuned one.
    """
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by}
