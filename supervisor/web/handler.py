"""What aiohttp does for one connection, with our words where a request is no HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from supervisor.web.errors import Code, RefusedError, complete, error, of_status

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.web_request import BaseRequest

    from supervisor.web.connections import Connection


class Handler(RequestHandler):
    """Refuses what is no HTTP in our words as well: such a request never gets to a route.

    ``too_large`` says that the head was, so that nobody looked at what is in it. ``connection`` is whose it is.
    """

    __slots__ = ("connection", "too_large")

    connection: Connection

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.too_large = False

    @property
    def has_more(self) -> bool:
        """Whether further requests wait for their turn."""
        return bool(self._messages)

    @property
    def is_idle(self) -> bool:
        """Whether no request is here, and none is being answered."""
        return self._waiter is not None and not self._waiter.done()

    def expect_no_more(self) -> None:
        """Close after the request that is being answered; further ones that wait already have to say so themselves."""
        if not self.has_more:
            self.close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be read."""
        super().handle_error(request, status, exc, message)
        is_large = self.too_large or isinstance(exc, LineTooLong)
        answer = error(RefusedError(Code.HEAD_TOO_LARGE) if is_large else of_status(status))
        answer.force_close()
        complete(answer)
        # Left out, it would be aiohttp's name and version.
        answer.headers["Server"] = ""
        return answer


def connection_of(request: web.Request) -> Connection:
    """Return the connection that a request came over."""
    return cast("Handler", request.protocol).connection
