"""What the pods of both kinds share."""
