"""The engine for translation: an encoder, a decoder with cross-attention, and greedy answers in batches."""
