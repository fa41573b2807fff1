"""The engine of `task: textGeneration`: continuous batching on ONNX Runtime, with OpenAI's API."""
