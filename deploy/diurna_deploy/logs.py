"""How our processes log: one JSON object a line, on the standard output; commands for people, on the error output."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

import structlog

from diurna_streams import tracing

_QUIET: Final = ("aiokafka", "kafka", "httpx", "httpcore", "uvicorn.access", "faust", "mode", "asyncio")
"""They repeat themselves while a broker restarts; their warnings are enough."""


def configure(*, process: str, level: str = "info", as_json: bool = True, stream: TextIO | None = None) -> None:
    """Sends the records of structlog and of the libraries to the standard output. `process` stands in each."""
    where = cast("TextIO", _Lossy(sys.stdout if stream is None else stream))
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace_ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(where),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(where)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _Lossy:
    """A stream whose lines may be lost: on a full disk the work must not fail because it cannot be told of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _trace_ids(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The ids of the span in which something is logged, where spans are made."""
    if (place := tracing.traceparent()) is not None:
        _, line["trace_id"], line["span_id"], _ = place.split("-")
    return line
