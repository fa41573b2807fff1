"""Running manifests on this machine, without a cluster."""
