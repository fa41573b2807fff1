"""Backends that run manifests, on this machine or in a cluster, behind one protocol. Nothing here prints or exits."""
