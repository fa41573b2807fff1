"""What the terminal shows, and the signals that it sends."""
