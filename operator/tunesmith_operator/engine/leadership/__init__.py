"""Which replica reconciles, whether it is healthy, and when it stops."""
