"""Continuous batching on ONNX Runtime: key-value slots, queue, sampling. It does not depend on HTTP."""
