"""OpenAI's API: `/v1/models`, `/v1/chat/completions` and `/v1/completions`; and vLLM's `/tokenize`."""
