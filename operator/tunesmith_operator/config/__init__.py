"""The operator's configuration: settings read from environment variables."""
