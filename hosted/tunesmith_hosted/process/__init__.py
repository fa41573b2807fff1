"""The command, and the application that it serves."""
