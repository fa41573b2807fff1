"""The URI of an artifact that is served."""

from __future__ import annotations

from tunesmith_api.spec import Rule

ARTIFACT_URI = r"^((s3|abfs|abfss|az|gs|file)://.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)+|\.{0,2}/.+)$"


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
