"""Where the config.json of a model is on the Hugging Face hub, for those who plan without the hub's own client."""

from __future__ import annotations

from urllib.parse import quote

HUB = "https://huggingface.co"
HUB_SCHEME = "hf://"
HUB_ENDPOINT = "HF_ENDPOINT"
"""Variable with the URL of a mirror of the hub, as the hub's own client reads it."""


def hub_file_url(endpoint: str, uri: str, revision: str | None, name: str) -> str:
    """Return the URL of a file of a model.

    Args:
        endpoint: URL of the hub or a mirror; the hub itself if empty.
        uri: The model, hf://ORGANISATION/NAME.
        revision: A branch, tag or commit; main by default.
        name: Path of the file in the repository.
    """
    base, repository = (endpoint or HUB).rstrip("/"), quote(uri.removeprefix(HUB_SCHEME))
    return f"{base}/{repository}/resolve/{quote(revision or 'main', safe='')}/{quote(name)}"
