"""Records of structlog and of the standard library go to the merged log."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import pytest
import structlog

from supervisor.logs.bridge import EventBridge
from tests.logs.rig import Rig, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A log that receives all records; the configuration is restored afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    rig = Rig(format="json", secrets=["geheimnis"])
    bridge = EventBridge(rig.log)
    await bridge.run()
    bridge.get_logger(part="tests")
    yield rig
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.basicConfig(handlers=handlers, level=level, force=True)


async def test_structlog(rig: Rig) -> None:
    """Fields, levels and exceptions are logged as given; debug is omitted."""
    logger = structlog.get_logger()
    logger.debug("not told")
    logger.info("hello", count=1, level="x", why="geheimnis")
    try:
        int("geheimnis")
    except ValueError as error:
        logger.exception("failed")
        logger.warning("failed again", exc_info=error)
    first, second, third = rig.end_json()
    assert (first["level"], first["message"], first["count"], first["level_"]) == ("info", "hello", 1, "x")
    assert first["why"] == "[redacted]"
    assert (second["level"], third["level"]) == ("error", "warning")
    assert all(record["traceback"].endswith("int() with base 10: '[redacted]'\n") for record in (second, third))


async def test_standard_library(rig: Rig) -> None:
    """Warnings and worse are logged, with the library's name."""
    logging.getLogger("aiohttp.server").error("cannot %s", "serve")
    logging.getLogger("aiohttp.access").info("not told")
    (record,) = rig.end_json()
    assert (record["level"], record["message"], record["part"]) == ("error", "cannot serve", "aiohttp.server")


async def test_other_threads(rig: Rig) -> None:
    """Other threads pass their records to the loop's thread."""
    await asyncio.to_thread(lambda: structlog.get_logger().warning("from afar", thread=threading.active_count() > 1))
    await until(lambda: rig.log.history.next == 2)
    (record,) = rig.end_json()
    assert record["message"] == "from afar"
