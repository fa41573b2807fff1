"""The fine-tuning stages: prepare, train, publish."""
