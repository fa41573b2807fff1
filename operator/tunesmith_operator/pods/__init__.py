"""What the pods of both kinds have in common."""
