"""From texts to token ids as the model was trained on them."""
