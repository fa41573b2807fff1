"""The base model: from the Hugging Face hub, a folder, an object store, or a new one with random weights."""
