"""Base models and fine-tuned models by name."""
