"""Sequence classification: a model learns the class, the classes or the number that belongs to a text."""
