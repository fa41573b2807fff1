"""The log: a JSON object a line, to standard error. It names ids, never keys, contents or what users call things."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


class JsonFormatter(logging.Formatter):
    """Writes a record, and the dictionary `fields` that it may have, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _ENCODE(line)


def configure_logs(level: int = logging.INFO) -> None:
    """Send all logs to standard error as JSON."""
    # What no line says need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for quiet in ("alembic", "uvicorn.error", "httpx", "sqlalchemy"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
