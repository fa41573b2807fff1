"""Settings of the service, and the administrator's list of base models."""
