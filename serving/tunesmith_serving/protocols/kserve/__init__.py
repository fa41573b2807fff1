"""KServe's Open Inference Protocol, V2, with the binary tensor data extension."""
