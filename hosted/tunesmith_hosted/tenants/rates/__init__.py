"""Requests and tokens a minute."""
