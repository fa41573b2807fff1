"""The methods of training: how each makes a base model trainable, saves the weights and merges them."""
