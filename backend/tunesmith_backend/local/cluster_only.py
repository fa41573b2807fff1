"""Warns about fields that have no effect without a cluster."""

from __future__ import annotations

from pydantic import BaseModel

from tunesmith_api.objects.cluster_only import set_cluster_only_fields
from tunesmith_backend.interface.events import ClusterOnlyFields, Emit
from tunesmith_backend.interface.protocol import ObjectRef


def emit_cluster_only_fields(ref: ObjectRef, spec: BaseModel, emit: Emit) -> None:
    """Emit an event that names the fields that are set and have no effect here, if there are any.

    Args:
        ref: The object.
        spec: Its spec.
        emit: Receives the event.
    """
    if found := set_cluster_only_fields(spec):
        emit(ClusterOnlyFields(ref, tuple(found)))
