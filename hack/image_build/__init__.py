"""Builds the images of images/*/Dockerfile: `make images`."""
