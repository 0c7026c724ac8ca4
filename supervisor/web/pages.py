"""`GET /`: the panel. What serves its files is loaded for the first browser that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from supervisor.web.context import Context


async def index(_context: Context, request: web.Request) -> web.Response:
    """Give the page that everything begins with."""
    from supervisor.web import panel_files

    return await panel_files.serve(request, panel_files.INDEX)


async def asset(_context: Context, request: web.Request) -> web.Response:
    """Give one of the files that the page is made of."""
    from supervisor.web import panel_files

    return await panel_files.serve(request, request.match_info["file"])
