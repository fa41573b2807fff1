"""Text generation that learns from pairs of answers: direct preference optimisation."""
