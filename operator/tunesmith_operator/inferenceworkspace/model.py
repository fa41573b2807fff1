"""The input of decisions about a workspace: the observed state, and the artifact to serve."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.engine.reconciler import ApplyError, KubeObject

REVISION_LENGTH = 10


def claim_of(uri: str) -> tuple[str, str] | None:
    """Return the claim and the path on its volume of a `pvc://` URI; None for any other."""
    if not uri.startswith("pvc://"):
        return None
    name, _, path = uri.removeprefix("pvc://").partition("/")
    return name, path.strip("/")


@dataclass(frozen=True)
class OwnAdapter:
    """The adapter of the job whose base model is served.

    Attributes:
        name: Name under which it is served.
        uri: Where it is.
        digest: Its digest.
    """

    name: str
    uri: str
    digest: str | None = None

    def to_status(self) -> dict[str, str]:
        """Return it as written to a status."""
        return {"name": self.name, "uri": self.uri, **({"digest": self.digest} if self.digest else {})}

    @classmethod
    def from_status(cls, value: object) -> Self | None:
        """Return the adapter that a status names; None if it names none."""
        if not isinstance(value, dict) or not value.get("uri") or not value.get("name"):
            return None
        return cls(str(value["name"]), str(value["uri"]), value.get("digest"))


@dataclass(frozen=True)
class Target:
    """The artifact to serve.

    Attributes:
        uri: Where it is.
        digest: Its digest; None if only the URI is known.
        job: The FineTuneJob that wrote it; None for an artifact by URI.
        completed: When that job ended.
        labels: The labels by which the job was found; None if it was named.
        secret: Secret with which the job wrote it, also used to read it.
        adapter: The job's own result, where the artifact is the base model of an adapter.
        task: The job's task; None for an artifact by URI.
    """

    uri: str
    digest: str | None = None
    job: str | None = None
    completed: str | None = None
    labels: Mapping[str, str] | None = None
    secret: str | None = None
    adapter: OwnAdapter | None = None
    task: str | None = None

    @property
    def identity(self) -> str:
        """Its digest, else the hash of its URI, as `sha256:...`."""
        return self.digest or f"sha256:{hashlib.sha256(self.uri.encode()).hexdigest()}"

    @property
    def revision(self) -> str:
        """The first ten hexadecimal digits of its identity."""
        return self.identity.removeprefix("sha256:")[:REVISION_LENGTH]

    @property
    def claim(self) -> tuple[str, str] | None:
        """The claim of its volume and the path on it, for a `pvc://` URI."""
        return claim_of(self.uri)

    def to_status(self) -> dict[str, Any]:
        """Return it as written to `status.resolved.model.value`."""
        values = {
            "uri": self.uri,
            "digest": self.digest,
            "fineTuneJob": self.job,
            "completionTime": self.completed,
            "matchLabels": dict(self.labels) if self.labels else None,
            "secretName": self.secret,
            "task": self.task,
            "adapter": self.adapter.to_status() if self.adapter else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_status(cls, status: Mapping[str, Any], name: str = "model") -> Self | None:
        """Return the target that a status names, as `model` or `draftModel`; None if it names none."""
        value = ((status.get("resolved") or {}).get(name) or {}).get("value")
        if not isinstance(value, dict) or not value.get("uri"):
            return None
        return cls(
            uri=value["uri"],
            digest=value.get("digest"),
            job=value.get("fineTuneJob"),
            completed=value.get("completionTime"),
            labels=value.get("matchLabels"),
            secret=value.get("secretName"),
            task=value.get("task"),
            adapter=OwnAdapter.from_status(value.get("adapter")),
        )


@dataclass(frozen=True)
class Wait:
    """Why the requested artifact is not available.

    Attributes:
        reason: One word.
        message: What is missing, and what to do.
        final: Whether it never becomes available by itself.
    """

    reason: str
    message: str
    final: bool = False


@dataclass(frozen=True)
class Choice:
    """What to serve now.

    Attributes:
        target: The artifact: the requested one or, while that is not available, the previous one.
        why: Why this one, for people.
        wait: Set if the spec asks for another artifact than `target`, or if there is none at all.
    """

    target: Target | None
    why: str = ""
    wait: Wait | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter that the servers are told to load.

    Attributes:
        name: Name under which it is served.
        uri: Where it is.
        digest: Its digest; None if only the URI is known.
        secret: Secret with which it is read, where that is not the base model's.
    """

    name: str
    uri: str
    digest: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class Withheld:
    """An adapter that the servers are not told of.

    Attributes:
        name: Its name.
        message: Why, and what to do.
        failed: Whether it does not become available by itself.
        digest: Its digest, if it is known.
    """

    name: str
    message: str
    failed: bool
    digest: str | None = None


@dataclass(frozen=True)
class Adapters:
    """The adapters of a workspace.

    Attributes:
        sent: Those that the servers are told to load, by name.
        withheld: Those that they are not told of.
    """

    sent: tuple[Adapter, ...] = ()
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a server says about its adapters.

    Attributes:
        version: Version of the list that it follows; None if it has none yet.
        states: State and message of each adapter, by name.
        problem: Why it gave no such answer.
    """

    version: str | None = None
    states: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Observed:
    """The observed state of one workspace. Nothing in it may be changed.

    Attributes:
        workspace: The InferenceWorkspace.
        spec: Its spec.
        choice: The artifact to serve, chosen from the FineTuneJobs that the spec refers to.
        draft: The artifact of the draft model, chosen likewise; None if there is to be none.
        deployment: Its Deployment.
        pods: Its pods, old and new ones.
        events: Newest warning about pods that cannot start, by the pod's name.
        one_node: Names of claims that can be mounted on one node only.
        errors: The children that the API server refused last time.
        adapters: The adapters to serve on the artifact; None if the workspace has none.
        answers: What the servers say about their adapters, by the pod's name.
        lists: The lists of adapters of other revisions that still run, by the key in the ConfigMap.
        now: Seconds since the epoch.
    """

    workspace: KubeObject
    spec: InferenceWorkspaceSpec
    choice: Choice
    deployment: KubeObject | None = None
    pods: tuple[KubeObject, ...] = ()
    events: Mapping[str, str] = field(default_factory=dict)
    one_node: frozenset[str] = frozenset()
    errors: tuple[ApplyError, ...] = ()
    adapters: Adapters | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    now: int = 0
    draft: Choice | None = None
