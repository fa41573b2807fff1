"""Answers requests from a file as the server would, without HTTP, so that `publish` can check what will be served."""
