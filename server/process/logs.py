"""Lines on standard error: JSON for programs, plain text for people at a terminal. A record's
fields come from our code, never from a client."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from functools import partial
from types import TracebackType
from typing import Any, TextIO

import orjson

from slotmux.runtime.gguf.errors import ascii_safe

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


class TextFormatter(logging.Formatter):
    """The same for a person: time, what happened, its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """``12:30:01 event  name=value ...``; a warning or an error says that it is one."""
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            fields |= describe(record.exc_info[1])
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        values = "  ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return ascii_safe(f"{clock} {level}{record.getMessage()}  {values}".rstrip(), 2000)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def describe(error: BaseException | None) -> dict[str, Any]:
    """Class and places of an exception, not its message, which may hold a client's text."""
    if error is None:
        return {}
    return {"exception": type(error).__name__, "where": _places(error.__traceback__)}


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what standard error is when a line comes: while bars are drawn on a terminal, that
    is what puts lines above them."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def is_text(log_format: str) -> bool:
    """Whether lines are for a person."""
    return log_format == "text" or (log_format == "auto" and sys.stderr.isatty())


def set_up_logging(level: str, log_format: str = "json", model: str = "") -> logging.Logger:
    """Sends every log to standard error; of other packages only warnings. ``model``: a field that
    every line gets, where several processes write to one place."""
    handler = _StderrHandler()
    handler.setFormatter(TextFormatter() if is_text(log_format) else JsonFormatter())
    if model:
        handler.addFilter(partial(_add_model, model))
    for name, its_level in ((LOGGER, level.upper()), ("uvicorn.error", "WARNING"), ("", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(its_level)
        logger.propagate = False
    return logging.getLogger(LOGGER)


def _add_model(model: str, record: logging.LogRecord) -> bool:
    record.fields = {"model": model} | getattr(record, "fields", {})
    return True


def _places(tb: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(tb)[-8:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
