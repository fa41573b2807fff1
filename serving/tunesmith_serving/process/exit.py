"""Ending the process with an error message."""

import sys

from tunesmith_api.contract import SERVER_INVALID_ARTIFACT


def fail(message: str, code: int = SERVER_INVALID_ARTIFACT) -> int:
    """Print an error as one line and return the exit code."""
    print(f"tunesmith-serving: {' '.join(message.split())}", file=sys.stderr)
    return code
