"""JSON lines on standard error. A record's fields come from our code, never from a client."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

import orjson

LOGGER = "slotmux"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; control characters are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        """``logger.info(event, extra={"fields": {...}})`` becomes {time, level, event, ...}."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line |= describe(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def describe(error: BaseException | None) -> dict[str, Any]:
    """Class and places of an exception, not its message, which may hold a client's text."""
    if error is None:
        return {}
    return {"exception": type(error).__name__, "where": _places(error.__traceback__)}


def set_up_logging(level: str) -> logging.Logger:
    """Sends every log to standard error as JSON lines; of other packages only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, its_level in ((LOGGER, level.upper()), ("uvicorn.error", "WARNING"), ("", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(its_level)
        logger.propagate = False
    return logging.getLogger(LOGGER)


def _places(tb: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(tb)[-8:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
