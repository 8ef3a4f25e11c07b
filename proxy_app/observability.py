"""
Logs: one JSON object a line in production, readable lines in a terminal. Never prompts,
completions or keys: whoever logs passes facts by name.
"""

import logging
import sys

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(*, is_readable: bool, level: int = logging.INFO) -> None:
    """
    Send all logs to standard output; libraries' own from warnings on.

    Args:
        is_readable: For a person at a terminal, rather than for programs.
    """
    last: Processor = _to_json
    if is_readable:
        last = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0)
    structlog.configure(
        processors=[*_SHARED, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    # What JSON does not know is printed as text: a log line never fails its request.
    return orjson.dumps(event, default=str).decode()
