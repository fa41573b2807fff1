"""Names of Kubernetes objects."""

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""What most objects may be called, a FineTuneJob too; of at most 253 characters, or fewer where a field says so."""
