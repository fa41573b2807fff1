"""The task translation: a model with an encoder and a decoder learns to translate texts."""
