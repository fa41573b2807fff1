"""The URI of an artifact that is served."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith_api.spec import Rule
from tunesmith_api.spec.names import DNS_SUBDOMAIN

_URI = r"^((s3|abfs|abfss|az|gs|file)://.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)+|\.{0,2}/.+)$"

ArtifactUri = Annotated[str, Field(min_length=1, max_length=1024, pattern=_URI)]
"""Folder of an artifact that is served."""

JobName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_SUBDOMAIN)]
"""Name of a FineTuneJob whose artifact is served."""


def uri_rules(instead: str) -> tuple[Rule, Rule]:
    """Return the rules of an object with `uri` and `secretRef`.

    Args:
        instead: A URI in an object store, to write instead of one on a volume.
    """
    return (
        Rule(
            "!has(self.uri) || !self.uri.startsWith('pvc://') || !self.uri.contains('..')",
            "uri must not lead out of its volume; write pvc://CLAIM/PATH without '..'",
            lambda m: m.uri is None or not m.uri.startswith("pvc://") or ".." not in m.uri,
        ),
        Rule(
            "!has(self.secretRef) || !has(self.uri) || !self.uri.startsWith('pvc://')",
            f"secretRef has no meaning with a volume; remove it, or write uri: {instead}",
            lambda m: m.secret_ref is None or m.uri is None or not m.uri.startswith("pvc://"),
        ),
    )
