"""The process that a stage runs in: its configuration, lock, signals, termination message and progress reports."""
