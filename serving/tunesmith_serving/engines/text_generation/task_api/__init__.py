"""Text generation in the shape of tasks: inputs and parameters as Hugging Face's task API has them."""
