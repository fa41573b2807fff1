"""Checkpoints: written, sealed, found again, uploaded."""
