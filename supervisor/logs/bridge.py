"""Lets records of structlog and of the standard library's logging join the merged log.

Loaded in a worker thread when the processes run already; who logs before that says it to the log.
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
    """The one place that configures logging and structlog: what is said to their loggers ends in the log."""

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    async def run(self) -> None:
        """Join the records from now on; return at once."""
        import asyncio

        self.join(asyncio.get_running_loop())

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take every record, on the loop's thread or another."""
        self._loop = loop
        self._thread = threading.get_ident()
        logging.basicConfig(handlers=[_Handler(self)], level=logging.WARNING, force=True)
        logging.captureWarnings(True)

    def get_logger(self, **fields: Any) -> Any:
        """Return structlog's logger with these fields. structlog is loaded for the first one: it takes 2 MB."""
        import structlog

        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, self._take_structured],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        return structlog.get_logger(**fields)

    def take(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Hand one record to the log, which lives on the loop's thread."""
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
        """Pass a library's record on."""
        try:
            fields: dict[str, Any] = {"part": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
            self._records.take(NAMES.get(record.levelname.lower(), "info"), record.getMessage(), fields)
        except Exception:  # noqa: BLE001 - logging never ends what logs
            self.handleError(record)
