"""Structured logs: one event per line, as text for people or JSON for collectors, on one stream.

`configure` is called once, by server and operate; everybody else asks structlog (`structlog.get_logger`) or the
standard library's logging, both of which end in the same processors. No secret and no query string gets through
(SECURITY 25): fields with a telling name are starred, and the query of every address in any text is cut.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

STARS = "***"

_SECRET_NAMES = re.compile(
    r"token|password|secret|authorization|cookie|api_?key|private_?key|ticket|credential", re.IGNORECASE
)
_HARMLESS_NAMES = frozenset({"key_id", "token_count", "key_file", "ticket_id"})
_QUERY = re.compile(r"(?<=[\w/\]:.~%-])\?[\w.~%+\-\[][^\s\"'<>]*")
_FRAGMENT = re.compile(r"(?<=[\w/])#[\w-]{20,}")
_BEARER = re.compile(r"\b(bearer|basic|token)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def redacted(text: str) -> str:
    """Return the text without queries of addresses, one-time fragments, credentials, and terminal escapes."""
    text = _QUERY.sub("?" + STARS, text)
    text = _FRAGMENT.sub("#" + STARS, text)
    text = _BEARER.sub(lambda found: f"{found[1]}{found[2]}{STARS}", text)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name) and name not in _HARMLESS_NAMES:
        return STARS
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: _clean(str(key), part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, part) for part in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted(str(value))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Clean every field of an event; the last processor before the renderer, so that tracebacks pass it too."""
    for name, value in list(event.items()):
        if not name.startswith("_"):  # structlog's own
            event[name] = _clean(name, value)
    event["event"] = str(event.get("event", "")).replace("\n", "\\n")  # one event, one line
    return event


def configure(log_format: Literal["text", "json"] = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Send the logs of this process to `stream` (default: standard error). Calling it again replaces the earlier."""
    target = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    rendering += [structlog.processors.format_exc_info, redact]
    if log_format == "json":
        rendering.append(structlog.processors.JSONRenderer())
    else:
        rendering.append(structlog.dev.ConsoleRenderer(colors=target.isatty()))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they would write past us
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # it logs query strings; api writes its own line
    for name in ("httpx", "httpcore", "aiosqlite", "alembic", "asyncio", "uvicorn.error", "websockets"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
