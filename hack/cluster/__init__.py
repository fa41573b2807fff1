"""A real Kubernetes cluster as processes of this machine, for tests and for trying things out.

`python -m cluster up|down|status` (with `hack` on the Python path) needs only Python's standard library: it runs before
there is a virtual environment. `cluster.client`, which talks to a running cluster, does need one.
"""
