"""Reasons in conditions that the operator sets itself; those of stages are in `tunesmith_api.failures.Reason`."""

from __future__ import annotations

from enum import StrEnum


class OperatorReason(StrEnum):
    """The reason of a condition. docs/operations.md says what to do about each."""

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
    # Each kind has its own names for these, which alerts and scripts may use.
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

    # Of the condition AdaptersReady.
    ADAPTERS_LOADED = "AdaptersLoaded"
    ADAPTERS_PENDING = "AdaptersPending"
    ADAPTER_FAILED = "AdapterFailed"
