"""What can be known of a model without its weights."""
