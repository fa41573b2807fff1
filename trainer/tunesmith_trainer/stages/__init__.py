"""The three stages as commands, and how each is run."""
