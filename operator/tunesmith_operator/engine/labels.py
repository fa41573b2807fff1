"""Labels of the operator's children, and the field managers that it writes as."""

from __future__ import annotations

OWNER_UID = "tunesmith.dev/owner-uid"
"""Label of every child: the UID of the object that it was made for."""
OWNER_KIND = "tunesmith.dev/owner-kind"
"""Label of every child: `FineTuneJob` or `InferenceWorkspace`."""
OWNER_NAME = "tunesmith.dev/owner-name"
"""Label of every child: the name of the object that it was made for."""
STAGE = "tunesmith.dev/stage"
"""Label of a stage's Job and pods: prepare, train or publish."""

FIELD_MANAGER = "tunesmith"
STATUS_FIELD_MANAGER = "tunesmith-status"
PROGRESS_FIELD_MANAGER = "tunesmith-progress"
"""Owns `status.progress` alone, so that whichever replica a pod reports to can write it."""
