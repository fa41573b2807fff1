"""Fields of events, whose names differ between the two APIs of events."""

from __future__ import annotations

from tunesmith_operator.engine.reconciler import KubeObject


def text_of(event: KubeObject) -> str:
    """Return an event's message."""
    return str(event.get("note") or event.get("message") or "")


def last_seen(event: KubeObject) -> str:
    """Return when an event happened last, as Kubernetes writes it; empty if it does not say."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("lastTimestamp")
    return str(found or event.get("eventTime") or "")
