"""The base model: from the Hugging Face hub, a folder, an object store, or made from nothing."""
