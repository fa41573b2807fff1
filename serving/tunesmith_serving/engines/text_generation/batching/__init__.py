"""Continuous batching on ONNX Runtime: key-value slots, queue, sampling. It knows nothing of HTTP."""
