"""A real Kubernetes cluster as processes on this machine, for tests and demos.

`python -m cluster up|down|status` (with `hack` on the Python path) needs only Python's standard library: it runs before
there is a virtual environment. `cluster.client`, which talks to a running cluster, does need one.
"""
