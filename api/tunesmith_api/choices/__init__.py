"""Choices that `resolve` makes where the spec leaves something open, each with its reason."""
