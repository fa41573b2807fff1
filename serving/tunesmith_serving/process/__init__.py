"""The server process: its options, its exit codes, and the order in which it starts."""
