"""Tools of a request: their checks, the calls in an answer's text, and what `tool_choice` asks for."""
