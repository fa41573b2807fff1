"""The Kubernetes operator and its API."""
