"""Brings what other services hold here: OpenAI's fine-tuning jobs, their files, and answers of their models."""
