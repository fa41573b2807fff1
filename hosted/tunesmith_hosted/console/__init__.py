"""What the web console asks of the service beyond the routes of OpenAI: its own API, signing in, and its files."""
