"""The HTTP server around an engine; it depends on no engine and not on ONNX Runtime."""
