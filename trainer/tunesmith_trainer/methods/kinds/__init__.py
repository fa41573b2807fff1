"""The kinds of adapters: what each trains, and how it changes a weight."""
