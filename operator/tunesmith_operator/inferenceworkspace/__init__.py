"""The InferenceWorkspace: servers over an artifact, replaced without losing a request."""

from tunesmith_operator.inferenceworkspace.reconciler import InferenceWorkspaceReconciler

__all__ = ["InferenceWorkspaceReconciler"]
