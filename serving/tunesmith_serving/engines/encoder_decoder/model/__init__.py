"""The exported encoder and decoder on ONNX Runtime, and what their files say of them."""
