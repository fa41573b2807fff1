"""Where the stages of a job hand their work to one another."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.objects.pod_template import LocalObjectReference
from tunesmith_api.spec import Rule, SpecModel
from tunesmith_api.spec.names import DNS_SUBDOMAIN
from tunesmith_api.spec.quantity import Memory

OBJECT_STORE = "^(s3|abfs|abfss|az|gs)://"
"""Matches the begin of URIs of object stores, in Python as in CEL."""


class StorageSpec(SpecModel):
    """What the stages share: a new volume, one that is there, or an object store's prefix. Concerns clusters only."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.claimName) || !(has(self.size) || has(self.storageClassName) || has(self.accessMode))",
            "claimName names a volume that is there, and size, storageClassName and accessMode are for a new one; "
            "remove claimName, or remove the others",
            lambda s: s.claim_name is None or (s.size, s.storage_class_name, s.access_mode) == (None, None, None),
        ),
        Rule(
            "!has(self.uri) || !(has(self.claimName) || has(self.accessMode))",
            "uri keeps the work in an object store, and claimName and accessMode are of a volume that the stages "
            "share; remove uri, or remove the others",
            lambda s: s.uri is None or (s.claim_name, s.access_mode) == (None, None),
        ),
        Rule(
            "!has(self.secretRef) || has(self.uri)",
            "secretRef has no meaning without uri; remove it, or write uri: s3://BUCKET/PREFIX",
            lambda s: s.secret_ref is None or s.uri is not None,
        ),
    )

    claim_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="PersistentVolumeClaim in the same namespace to work on. Paths in the spec that are relative "
            "start at its root. Several jobs can share one.",
            examples=["my-claim"],
        ),
    ] = None
    uri: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            pattern=rf"{OBJECT_STORE}[^/]+(/.*)?$",
            description="Prefix in an object store, instead of a volume: an s3://, abfs:// or gs:// URI. Each job "
            "keeps its work in a folder of its own there, which stays when the job is deleted. Each pod works on a "
            "disk of its own, and brings what the stages before it have left. Several jobs can share one.",
            examples=["s3://my-bucket/tunesmith"],
        ),
    ] = None
    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret whose keys become variables of all stages and of the servers, to read and write under "
            "uri: AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, ... Where output.secretRef and others have the same "
            "keys, theirs win.",
            examples=[{"name": "my-secret"}],
        ),
    ] = None
    size: Annotated[
        Memory | None,
        Field(
            description="Size of the new volume, 20Gi by default: room for the model about four times, "
            "and for the checkpoints. With uri the size of each pod's own disk; without it that is the node's.",
            examples=["100Gi"],
        ),
    ] = None
    storage_class_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="StorageClass of the new volume, or with uri of each pod's own disk; the cluster's own "
            "default when it is left out.",
            examples=["azurefile-csi-premium"],
        ),
    ] = None
    access_mode: Annotated[
        Literal["ReadWriteOnce", "ReadWriteMany"] | None,
        Field(
            description="Who can mount the new volume: ReadWriteOnce (by default: one node at a time) or "
            "ReadWriteMany (several nodes at once).",
            examples=["ReadWriteMany"],
        ),
    ] = None
