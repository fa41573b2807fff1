"""A backend that runs manifests on this machine, without a cluster."""
