"""Batches of requests that start together: which ones, their steps, and when they leave."""
