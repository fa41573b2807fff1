"""A backend that keeps objects in a Kubernetes cluster, where the operator runs them."""
