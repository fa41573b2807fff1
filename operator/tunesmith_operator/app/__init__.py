"""One replica of the operator: its command, and the assembly of its parts."""
