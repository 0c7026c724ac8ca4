"""Serves HTTP on the sockets that were bound before anything was started."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import re
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio

from supervisor.backoff import Backoff, delay_s
from supervisor.runtime.loop_latency import load_module, run_in_thread
from supervisor.system.peercred import why_refused
from supervisor.web.acceptor import MOST_CONNECTIONS, Acceptor, Connections, DescriptorShortage, connection_limits
from supervisor.web.connections import Connection
from supervisor.web.context import Context, OpenStreams, RequestMetrics
from supervisor.web.front import Front
from supervisor.web.placeholder import Placeholder
from supervisor.web.sessions import Keyring, SignInCodes
from supervisor.web.throttle import Throttle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.store import Channels, SnapshotStore
    from supervisor.telemetry.spans import Recorder
    from supervisor.web.connections import ConnectionHandler

    MakeHandler = Callable[[], ConnectionHandler]

API = "supervisor.web.app"
_RETRY = Backoff(initial_s=1.0, max_s=60.0)


class Server:
    """The HTTP server for all sockets. ``control`` is the control socket, if there is one.

    ``held`` are those on the app's own port while the app is held; the callback passed to ``when_released`` releases
    them. ``recorder`` gets spans, if they are enabled. API and panel are imported at the first request for them.
    """

    def __init__(
        self,
        plan: Plan,
        store: SnapshotStore,
        log: LogPipeline,
        engine: Engine,
        channels: Channels,
        sockets: Sequence[socket.socket],
        control: socket.socket | None,
        recorder: Recorder | None = None,
        held: Sequence[socket.socket] = (),
        when_released: Callable[[Callable[[], None]], None] = lambda _close: None,
    ) -> None:
        address = plan.listen._replace(port=sockets[0].getsockname()[1]) if sockets else plan.listen
        keyring = Keyring(plan.settings.token, log)
        codes = SignInCodes(keyring, log, store, address)
        boot = f"{int(store.snapshot.began_s * 1000):x}"
        self._context = Context(
            plan, store, log, engine, channels, keyring, codes, Throttle(log), OpenStreams(boot), RequestMetrics()
        )
        keyring.on_end = self._context.streams.recheck_session
        self._api = ApiLoader(self._context, recorder)
        self._kinds: list[Connections] = []
        self._shortage = DescriptorShortage(log, self._kinds)
        self._sockets = sockets
        self._control = control
        self._placeholder = Placeholder(store, held, when_released)

    async def run(self) -> None:
        """Serve until cancelled."""
        listeners = self._listen()
        if not self._context.keyring.has_token:
            self._context.sign_in_codes.print_code()
        try:
            await anyio.sleep_forever()
        finally:
            self._context.metrics.lag.stop()
            for listener in listeners:
                listener.close()
            with anyio.CancelScope(shield=True):
                await self.close()
                for kind in self._kinds:
                    for connection in kind:
                        connection.stop()
                await self._api.close()

    async def close(self) -> None:
        """Send the end of the run to all event streams, and log what was counted; this takes at most 0.2 s."""
        try:
            await self._context.streams.close()
        finally:
            self._context.throttle.close()
            self._shortage.close()

    def _listen(self) -> list[Acceptor]:
        front = Front(self._context, self._api.when_loaded)
        most, most_over_control = connection_limits(MOST_CONNECTIONS)
        public = Connections(partial(Connection, front=front), most)
        control = Connections(partial(Connection, front=front, check=why_refused), most_over_control)
        held = self._placeholder.connections(most)
        self._kinds[:] = public, control, held
        wanted = [(public, listener) for listener in self._sockets]
        wanted += [(control, self._control)] if self._control is not None else []
        wanted += [(held, listener) for listener in self._placeholder.sockets]
        with ExitStack() as undone:
            # All are duplicated before any accepts: listeners of a failed start would run beside the next ones.
            copies = [(kind, undone.enter_context(listener.dup())) for kind, listener in wanted]
            undone.pop_all()
        acceptors = [Acceptor(copy, kind, self._shortage.make_room) for kind, copy in copies]
        self._placeholder.close_at_release([each for each in acceptors if each.connections is held], held)
        return acceptors


class ApiLoader:
    """The API and the panel, imported in a thread at the first request for them.

    A failure is logged, and waiting requests are refused; the first request after a pause tries again.
    """

    def __init__(self, context: Context, recorder: Recorder | None) -> None:
        self._context = context
        self._recorder = recorder
        self._waiting: list[Callable[[MakeHandler | None], None]] = []
        self._make_handler: MakeHandler | None = None
        self._loading: asyncio.Task[None] | None = None
        self._api: Any = None
        self._failures = 0
        self._again_s = -math.inf

    def when_loaded(self, take: Callable[[MakeHandler | None], None]) -> None:
        """Call ``take`` with the handler factory once it is loaded; with None if loading fails."""
        if self._make_handler is not None or (self._loading is None and time.monotonic() < self._again_s):
            take(self._make_handler)
            return
        self._waiting.append(take)
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def close(self) -> None:
        """Finish the requests that are being answered."""
        if self._loading is not None:
            self._loading.cancel()
            with suppress(asyncio.CancelledError):
                await self._loading
        if self._api is not None:
            await self._api.close()

    async def _load(self) -> None:
        try:
            await run_in_thread(load_without_client)
            module = await load_module(API)
            self._api = module.Api(self._context, self._recorder)
            self._make_handler = await self._api.start()
        except Exception as error:  # noqa: BLE001 - the border of a failure domain: health goes on
            self._failures += 1
            wait_s = delay_s(_RETRY, self._failures, 1.0)
            self._again_s = time.monotonic() + wait_s
            self._context.log.record(
                "error",
                "service crashed",
                part="web",
                why=repr(error),
                again_in_s=wait_s,
                traceback=traceback.format_exc(),
            )
        self._loading = None
        waiting, self._waiting = self._waiting, []
        for take in waiting:
            take(self._make_handler)


class _ServerOnly(ModuleType):
    """The aiohttp package without its ``__init__``: submodules can be imported, any other name runs ``__init__``."""

    def __getattr__(self, name: str) -> Any:
        """Return what ``__init__`` defines. Raises AttributeError for a submodule that has to be imported."""
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None or importlib.util.find_spec(f"aiohttp.{name}"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def load_without_client() -> None:
    """Let aiohttp's server be imported without its client, which takes 4 MB and is rarely needed.

    If its source cannot be read, nothing is done, and the import loads both.
    """
    try:
        spec = None if "aiohttp" in sys.modules else importlib.util.find_spec("aiohttp")
        if spec is None or spec.origin is None or spec.submodule_search_locations is None:
            return
        with open(spec.origin, encoding="utf-8") as source:
            version = re.search(r'^__version__ = "([^"]+)"', source.read(), re.MULTILINE)
    except OSError:
        return
    package = _ServerOnly("aiohttp")
    package.__spec__, package.__file__, package.__loader__ = spec, spec.origin, spec.loader
    package.__path__ = spec.submodule_search_locations
    package.__version__ = version[1] if version else ""  # type: ignore[attr-defined]
    sys.modules["aiohttp"] = package
