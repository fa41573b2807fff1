"""Exports whose linear layers take LoRA adapters as inputs: one base, and small adapters beside it."""
