"""Builds the images of images/: `make images`."""
