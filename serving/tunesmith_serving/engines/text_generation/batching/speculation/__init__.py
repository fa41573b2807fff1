"""Decoding several tokens a step: drafts are proposed and checked by one run of the model."""
