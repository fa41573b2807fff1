"""A real Kubernetes cluster as processes of this machine, for tests and for trying things out.

`python -m cluster up|down|status` (with `tests` on the Python path) needs nothing but Python's standard library: it
must run before there is a virtual environment. Tests use `support.cluster`.
"""
