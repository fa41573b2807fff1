"""From inputs of a task to rows of the model, and from its outputs to answers."""
