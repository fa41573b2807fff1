"""From a text to the token ids of the source: prefix and languages."""
