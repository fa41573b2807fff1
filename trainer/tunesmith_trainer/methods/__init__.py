"""The methods of training: how a base model is made trainable, and what is saved, merged and published."""
