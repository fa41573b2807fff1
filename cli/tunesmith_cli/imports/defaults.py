"""What an import takes where nothing else is asked for."""

OPENAI_URL = "https://api.openai.com/v1"

DEFAULT_BASE = "hf://microsoft/Phi-3-mini-4k-instruct"
"""The model that is fine-tuned instead of OpenAI's."""
