"""Passes records of structlog and of the standard library's logging to the merged log.

It is loaded in a worker thread once the processes run; earlier code logs to the pipeline directly.
"""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from supervisor.logs.lines import NAMES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

    from supervisor.logs.pipeline import LogPipeline


class EventBridge:
    """Configures logging and structlog, in this one place, so that their records reach the merged log."""

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    async def run(self) -> None:
        """Start passing on records; returns at once."""
        import asyncio

        self.join(asyncio.get_running_loop())

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a record, on any thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        logging.basicConfig(handlers=[_Handler(self)], level=logging.WARNING, force=True)
        logging.captureWarnings(True)

    def get_logger(self, **fields: Any) -> Any:
        """Return structlog's logger with these fields. The first call imports structlog, which takes 2 MB."""
        import structlog

        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, self._take_structured],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        return structlog.get_logger(**fields)

    def take(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Pass a record to the pipeline, on the loop's thread."""
        if self._loop is None or threading.get_ident() == self._thread:
            self._log.record(level, event, **fields)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._log.record(level, event, **fields))

    def _take_structured(self, _logger: Any, method: str, record: MutableMapping[str, Any]) -> NoReturn:
        fields = dict(record)
        error = fields.pop("exc_info", None)
        if error is True or method == "exception":
            fields["traceback"] = traceback.format_exc()
        elif isinstance(error, BaseException):
            fields["traceback"] = "".join(traceback.format_exception(error))
        self.take(NAMES.get(method, "error"), str(fields.pop("event", "")), fields)
        from structlog import DropEvent

        raise DropEvent


class _Handler(logging.Handler):
    def __init__(self, records: EventBridge) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a record of a library."""
        try:
            fields: dict[str, Any] = {"part": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
            self._records.take(NAMES.get(record.levelname.lower(), "info"), record.getMessage(), fields)
        except Exception:  # noqa: BLE001 - logging never ends what logs
            self.handleError(record)
