"""Token classification: a label for each word of a text, or entities as spans of its characters."""
