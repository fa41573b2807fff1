"""The volume that the stages of a job share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_operator.api.quantity import Memory
from tunesmith_trainer.config import Rule, SpecModel

_DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class StorageSpec(SpecModel):
    """The volume that the stages share: one that is there, by `claimName`, or a new one. Concerns clusters only."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.claimName) || !(has(self.size) || has(self.storageClassName) || has(self.accessMode))",
            "claimName names a volume that is there, and size, storageClassName and accessMode are for a new one; "
            "remove claimName, or remove the others",
            lambda s: s.claim_name is None or (s.size, s.storage_class_name, s.access_mode) == (None, None, None),
        ),
    )

    claim_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=_DNS_SUBDOMAIN,
            description="PersistentVolumeClaim in the same namespace to work on. Paths in the spec that are relative "
            "start at its root. Several jobs can share one.",
            examples=["my-claim"],
        ),
    ] = None
    size: Annotated[
        Memory | None,
        Field(
            description="Size of the new volume, 20Gi by default: room for the model about four times, "
            "and for the checkpoints.",
            examples=["100Gi"],
        ),
    ] = None
    storage_class_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=_DNS_SUBDOMAIN,
            description="StorageClass of the new volume; the cluster's own default when it is left out.",
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
