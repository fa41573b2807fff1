"""A backend that stores objects in a Kubernetes cluster, where the operator runs them."""
