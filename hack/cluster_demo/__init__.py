"""Installs Tunesmith in a cluster and runs the quickstart there: `make cluster-demo`."""
