"""Batches of rows of like lengths, computed by a worker thread."""
