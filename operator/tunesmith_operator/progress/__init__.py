"""Receives the progress that training pods report over HTTPS, with Kubeflow Trainer's status protocol."""
