"""What all routes share: errors, pages, the caller, idempotency."""
