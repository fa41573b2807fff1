"""HTTP protocols of tasks, over `engines.predictor`: Hugging Face's task API, text-embeddings-inference, KServe V2."""
