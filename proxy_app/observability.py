"""
Logs: one JSON object a line in production, readable lines in a terminal. Never prompts,
completions or keys: whoever logs passes facts by name.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger
from typing_extensions import override

from proxy_app.log_writer import LogWriter

_STDOUT = 1
"""Its descriptor (POSIX)."""

_Render = Callable[[WrappedLogger, str, EventDict], str]


def configure_logging(*, is_readable: bool, level: int = logging.INFO) -> None:
    """
    Send all logs to standard output; libraries' own from warnings on. Once in a process.

    Args:
        is_readable: For a person at a terminal, rather than for programs.
    """
    last: _Render = _to_json
    if is_readable:
        last = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0)
    writer = LogWriter(_STDOUT, dropped_line=partial(_dropped_line, last))
    writer.start()
    structlog.configure(
        processors=[partial(_processed, last)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_Logger, writer),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_stamped, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _Logger:
    """What structlog hands a finished line to, by the name of its level."""

    def __init__(self, writer: LogWriter, *_: object) -> None:
        self._write = writer.write

    def msg(self, line: bytes) -> None:
        """Have *line* written."""
        self._write(line)

    debug = info = warning = error = critical = msg


class _Handler(logging.Handler):
    """Where libraries log to."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))


def _processed(render: _Render, logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Return a line of structlog's: in one step, because each request has one."""
    event = _stamped(logger, method, event)
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    return _line(render, logger, method, event)


def _stamped(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add level and time, to structlog's lines and to those of libraries."""
    event["level"] = method
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return event


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    # What JSON does not know is printed as text: a log line never fails its request.
    try:
        return orjson.dumps(event, default=str).decode()
    except orjson.JSONEncodeError:
        # Half a character, or a number of more than 64 bits.
        return json.dumps(event, default=str)


def _line(render: _Render, logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    return f"{render(logger, method, event)}\n".encode("utf-8", "backslashreplace")


def _dropped_line(render: _Render, lines: int) -> bytes:
    """Say that *lines* were dropped because nobody read them."""
    event: EventDict = {"event": "log_lines_dropped", "lines": lines}
    return _processed(render, None, "warning", event)
