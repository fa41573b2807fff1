"""What the decisions about a workspace are made of: what was observed, and what is to be served."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tunesmith_operator.engine.reconciler import ApplyError, Object

REVISION_LENGTH = 10


@dataclass(frozen=True)
class Observed:
    """Everything that is known of one workspace. Nothing in it is to be changed.

    Attributes:
        workspace: The InferenceWorkspace.
        jobs: The FineTuneJobs of its namespace that its spec names or whose labels it follows.
        deployment: Its Deployment.
        pods: Its pods, old and new ones.
        events: What keeps a pod from starting, by the pod's name, where only events tell.
        one_node: Names of claims that can be mounted on one node only.
        errors: What the API server answered when its children were written last.
    """

    workspace: Object
    jobs: tuple[Object, ...] = ()
    deployment: Object | None = None
    pods: tuple[Object, ...] = ()
    events: Mapping[str, str] = field(default_factory=dict)
    one_node: frozenset[str] = frozenset()
    errors: tuple[ApplyError, ...] = ()


@dataclass(frozen=True)
class Target:
    """The artifact to serve.

    Attributes:
        uri: Where it is.
        digest: Its digest; None where only the URI is known.
        job: The FineTuneJob that made it; None for an artifact by URI.
        completed: When that job ended.
        labels: The labels by which the job was found; None when it was named.
        secret: Secret with which the job wrote it, for those that read it.
    """

    uri: str
    digest: str | None = None
    job: str | None = None
    completed: str | None = None
    labels: Mapping[str, str] | None = None
    secret: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from others, as `sha256:...`: its digest, else the hash of its URI."""
        return self.digest or f"sha256:{hashlib.sha256(self.uri.encode()).hexdigest()}"

    @property
    def revision(self) -> str:
        """The first ten hexadecimal digits of its identity."""
        return self.identity.removeprefix("sha256:")[:REVISION_LENGTH]

    @property
    def claim(self) -> tuple[str, str] | None:
        """The claim of its volume and the path on it, for a `pvc://` URI."""
        if not self.uri.startswith("pvc://"):
            return None
        name, _, path = self.uri.removeprefix("pvc://").partition("/")
        return name, path.strip("/")

    def to_status(self) -> dict[str, Any]:
        """Return it as it stands in `status.resolved.model.value`."""
        values = {
            "uri": self.uri,
            "digest": self.digest,
            "fineTuneJob": self.job,
            "completionTime": self.completed,
            "matchLabels": dict(self.labels) if self.labels else None,
            "secretName": self.secret,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Self | None:
        """Return what a status says was chosen last, or None when it says nothing."""
        value = ((status.get("resolved") or {}).get("model") or {}).get("value")
        if not isinstance(value, dict) or not value.get("uri"):
            return None
        return cls(
            uri=value["uri"],
            digest=value.get("digest"),
            job=value.get("fineTuneJob"),
            completed=value.get("completionTime"),
            labels=value.get("matchLabels"),
            secret=value.get("secretName"),
        )
