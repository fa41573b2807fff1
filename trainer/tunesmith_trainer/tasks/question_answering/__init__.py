"""Extractive question answering: the answer is a part of the context, or there is none."""
