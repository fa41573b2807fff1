"""CRDs and docs/api.md, generated from the API models."""
