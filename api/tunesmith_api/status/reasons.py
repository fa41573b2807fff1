"""Reasons that the operator gives in conditions, beside those of a stage (`tunesmith_api.failures.Reason`)."""

from __future__ import annotations

from enum import StrEnum


class OperatorReason(StrEnum):
    """Why an object stands where it does. docs/operations.md tells what to do at each."""

    ACCEPTED = "Accepted"
    QUEUED = "Queued"
    SUSPENDED = "Suspended"
    PODS_ENDING = "PodsEnding"
    COMPLETED = "Completed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"

    # A pod cannot start, or is not even created.
    UNSCHEDULABLE = "Unschedulable"
    SCHEDULING_GATED = "SchedulingGated"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    VOLUME_LOST = "VolumeLost"
    QUOTA_EXCEEDED = "QuotaExceeded"
    FORBIDDEN = "Forbidden"
    NAME_TAKEN = "NameTaken"
    API_ERROR = "ApiError"
    # The two kinds name these by their own words, which alerts and scripts may look for.
    MISSING_REFERENCE = "MissingReference"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    POD_FORBIDDEN = "PodForbidden"
    PODS_FORBIDDEN = "PodsForbidden"

    # A server does not serve.
    EVICTED = "Evicted"
    FETCH_FAILED = "FetchFailed"
    INVALID_ARTIFACT = "InvalidArtifact"
    SERVER_FAILED = "ServerFailed"
    WAITING_FOR_JOB = "WaitingForJob"
    JOB_FAILED = "JobFailed"
    ROLLING_OUT = "RollingOut"
    ROLLOUT_BLOCKED = "RolloutBlocked"
    SCALING_DOWN = "ScalingDown"
    SCALED_TO_ZERO = "ScaledToZero"
    SERVING = "Serving"
