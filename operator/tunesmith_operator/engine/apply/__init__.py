"""Applies decisions: writes the children, the status and the events that differ from what the cluster has."""
