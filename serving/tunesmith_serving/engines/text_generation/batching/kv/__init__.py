"""Keys and values: rows of running requests, blocks of prefixes that are kept, and how much memory they may take."""
