"""Jobs, their events and checkpoints, and the manifests that they become."""
