"""The adapters of a workspace: which there are, how the servers learn of them, and what the servers say."""
