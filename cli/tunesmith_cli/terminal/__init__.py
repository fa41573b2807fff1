"""Terminal output, and signals from the terminal."""
