"""The OpenAI-compatible HTTP server. It knows nothing of ONNX."""
