"""One replica of the operator: its settings, its parts put together, its command."""
