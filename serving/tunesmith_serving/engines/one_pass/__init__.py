"""Tasks that a model answers in one forward pass: classes of texts, classes of tokens, answers in a context."""
