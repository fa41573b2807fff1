"""The generation engine: ONNX Runtime, key-value slots, continuous batching. It knows nothing of HTTP."""
