"""Conversations with tools: what training and the server read alike, and what chat templates get of them."""
