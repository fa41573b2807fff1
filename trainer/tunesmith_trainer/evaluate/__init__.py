"""Metrics of a model on the validation rows."""
