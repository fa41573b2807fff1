"""The process that a stage runs in: locks, signals, the termination message, progress, child processes."""
