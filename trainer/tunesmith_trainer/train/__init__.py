"""The train stage: from tokenised rows and a base model to trained weights."""
