"""Objects as OpenAI's clients read them."""
