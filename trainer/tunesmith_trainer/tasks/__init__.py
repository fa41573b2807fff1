"""What models learn to do, one module for each task."""
