"""Opening and verifying an artifact."""
