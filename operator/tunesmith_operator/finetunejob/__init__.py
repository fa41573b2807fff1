"""The FineTuneJob's side of the operator: three stages as Jobs over one volume."""

from tunesmith_operator.finetunejob.reconciler import FineTuneJobReconciler

__all__ = ["FineTuneJobReconciler"]
