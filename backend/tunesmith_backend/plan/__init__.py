"""Plans jobs before anything runs: reads a model's configuration, estimates its data, and compares machines."""
