"""The API server: the client, reads, and the writer of what was decided."""
