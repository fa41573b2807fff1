"""The ONNX Runtime server."""
