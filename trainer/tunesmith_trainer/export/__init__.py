"""Export to ONNX, and its comparison with the torch model."""
