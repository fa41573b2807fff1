"""Log lines: JSON for collectors, text for people; each names its object."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

_NOISY = ("kopf", "aiohttp.access", "asyncio")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and where given object and exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (key := getattr(record, "key", None)) is not None:
            line["object"] = str(key)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, object and message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        key = getattr(record, "key", None)
        record.about = f"{key}: " if key is not None else ""
        return super().format(record)


class _KeyAdapter(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": self.extra}


def with_key(logger: logging.Logger, key: object) -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger whose lines name an object."""
    return _KeyAdapter(logger, {"key": key})


def configure(log_format: str, level: str) -> None:
    """Send all log lines to standard error.

    Args:
        log_format: `json` or `text`.
        level: Lowest level that is logged. Libraries log warnings and worse, unless it is `debug`.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(about)s%(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING if level != "debug" else logging.INFO)
