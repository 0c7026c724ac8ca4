"""Keeps the event loop responsive by moving slow work to threads, and measures the loop's latency."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supervisor.core.counts import Durations
from supervisor.system import kernel

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Iterator
    from types import ModuleType

# Switch interval while a thread imports a module: the loop gets its turn sooner than after Python's 5 ms.
_SHORT_S = 0.001
_USUAL_S = sys.getswitchinterval()
_MOST_THREADS = 32
# Further threads that look up names: where DNS hangs, they leave the others to the disks.
_MOST_LOOKUPS = 32
MEASURE_EVERY_S = 1.0

T = TypeVar("T")
_slots = asyncio.Semaphore(_MOST_THREADS)
_lookup_slots = asyncio.Semaphore(_MOST_LOOKUPS)
_background: list[threading.Event] = []


class _Workers:
    """Threads that run jobs. One of them stays, since at the container's process limit no other can be started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._count = 0
        # Threads that have no job, less the jobs that have no thread.
        self._idle = 0

    def run(self, job: Callable[[], object]) -> None:
        """Have a thread run a job: at the process limit one that is busy, once it has finished.

        A job that blocks on a disk would block the loop, so that rather the job waits. It is run at once if there is no
        thread at all.
        """
        if not self._hand_over(job):
            job()

    def _hand_over(self, job: Callable[[], object]) -> bool:
        with self._lock:
            if self._idle < 1:
                if _start(self._work) is not None:
                    self._count += 1
                    self._idle += 1
                elif not self._count:
                    return False
            self._idle -= 1
            self._jobs.put(job)
        return True

    def _work(self) -> None:
        while True:
            try:
                self._jobs.get()()
            except BaseException:  # noqa: BLE001 - as where the thread ends with it
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            with self._lock:
                if self._idle > 0:
                    self._count -= 1
                    return
                self._idle += 1


_workers = _Workers()
_importing = threading.Lock()
_imported: set[str] = set()


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, with ``run_in_thread`` in the place of its pool, in which it looks up names.

    At the container's process limit that pool fails, when it is used and once more when the loop ends.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self._looking: dict[object, asyncio.Task[Any]] = {}

    def run_in_executor(self, _executor: object, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run ``work`` in a thread; all who look up the same name at the same time share one.

        While DNS hangs, a look-up takes far longer than callers wait, and they ask again and again.
        """
        if work is not socket.getaddrinfo:
            return self.create_task(run_in_thread(work, *arguments))
        job = (work, arguments)
        task = self._looking.get(job)
        if task is None:
            task = self._looking[job] = self.create_task(_run(_lookup_slots, work, arguments))
            task.add_done_callback(lambda _: self._looking.pop(job, None))
        return asyncio.shield(task)


def being_cancelled() -> bool:
    """Return whether this task was asked to end.

    If not, a CancelledError in it comes from something that it awaited, and is a failure like any other.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def load_module(name: str) -> ModuleType:
    """Import a module in a thread."""
    with short_switch_interval():
        return await run_in_thread(_load, name)


async def run_in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` in a thread and return its result; on the loop's own thread if there is no other.

    asyncio's pool would run it a second time after that failure, and anyio is not imported this early.
    """
    return await _run(_slots, work, arguments)


async def _run(slots: asyncio.Semaphore, work: Callable[..., T], arguments: tuple[object, ...]) -> T:
    """Run ``work`` in a thread that holds a slot until it is done, also if nobody waits for its result any more."""
    await slots.acquire()
    future = _begin(work, arguments)
    try:
        return await asyncio.wrap_future(future)
    finally:
        if future.done():
            slots.release()
        else:
            future.add_done_callback(partial(_release_later, asyncio.get_running_loop(), slots))


def _release_later(loop: asyncio.AbstractEventLoop, slots: asyncio.Semaphore, _future: object) -> None:
    # The loop may have ended.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(slots.release)


READ_S = 2.0


class TimedReader(Generic[T]):
    """Runs a function that may hang, such as reading a file of a network disk, in one thread at most.

    It may take ``limit_s``, by default ``READ_S``.
    """

    def __init__(self, read: Callable[[], T], limit_s: float | None = None) -> None:
        self._read = read
        self._limit_s = limit_s
        self._late: asyncio.Task[T] | None = None
        self._until_s = 0.0

    @property
    def hangs(self) -> bool:
        """Whether an earlier call has not ended yet."""
        return self._late is not None and not self._late.done()

    async def read(self) -> T:
        """Return the result. Raises TimeoutError if it takes too long, and at once while an earlier call hangs."""
        await self.wait_for_earlier()
        limit_s = READ_S if self._limit_s is None else self._limit_s
        self._until_s = time.monotonic() + limit_s
        task = asyncio.get_running_loop().create_task(run_in_thread(self._read))
        try:
            done, _ = await asyncio.wait((task,), timeout=limit_s)
        finally:
            self._late = None if task.done() else task
            if self._late is not None:
                # Its result is dropped, since it will be outdated.
                task.add_done_callback(lambda late: late.cancelled() or late.exception())
        if not done:
            raise TimeoutError
        return task.result()

    async def wait_for_earlier(self) -> None:
        """Wait for the rest of its time for a call that was cancelled. Raises TimeoutError if it hangs."""
        rest_s = self._until_s - time.monotonic()
        if self._late is not None and rest_s > 0:
            await asyncio.wait((self._late,), timeout=rest_s)
        if self.hangs:
            raise TimeoutError


SOON_S = 0.5


class SoonReader(Generic[T]):
    """Runs a function that may hang where the caller cannot await it, in one thread at most."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._last: Future[T] | None = None

    def read(self) -> T:
        """Return the result.

        Raises what the function raises, TimeoutError after ``SOON_S``, and at once while an earlier call hangs.
        """
        if self._last is not None and not self._last.done():
            raise TimeoutError
        self._last = _begin(self._read, ())
        return self._last.result(SOON_S)


def _begin(work: Callable[..., T], arguments: tuple[object, ...]) -> Future[T]:
    """Run work in a thread, or at once if there is none; return its future result."""
    future: Future[T] = Future()
    _workers.run(partial(_call, future, work, arguments))
    return future


def _call(future: Future[T], work: Callable[..., T], arguments: tuple[object, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
        future.set_exception(error)
    else:
        future.set_result(result)


def _start(target: Callable[..., object]) -> threading.Thread | None:
    """Start a thread and return it; None if the container is at its process limit, which includes threads."""
    thread = threading.Thread(target=target, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def can_start_threads() -> bool:
    """Return whether a thread can be started."""
    return _start(int) is not None


def run_in_background(work: Callable[[], None]) -> None:
    """Run work that may block on a disk: in a thread, or at once if no event loop runs on this thread."""
    done = threading.Event()

    def job() -> None:
        try:
            work()
        finally:
            done.set()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        job()
        return
    _background[:] = [*(each for each in _background if not each.is_set()), done]
    _workers.run(job)


def join_background(limit_s: float) -> None:
    """Block until all background work is done or the time is up."""
    deadline_s = time.monotonic() + limit_s
    for done in tuple(_background):
        done.wait(max(0.0, deadline_s - time.monotonic()))


async def background_done(limit_s: float) -> None:
    """Wait for the same without blocking the loop."""
    if not all(done.is_set() for done in _background):
        await run_in_thread(join_background, limit_s)


def import_alone(name: str) -> ModuleType:
    """Import a module in a thread, while no other thread imports one by this function.

    Two threads that enter a package by different modules may each wait for the other; importlib then raises an error,
    or returns a module that is not complete.
    """
    if name not in _imported:
        with _importing:
            import_module(name)
        _imported.add(name)
    return import_module(name)


def _load(name: str) -> ModuleType:
    is_new = name not in sys.modules
    found = import_alone(name)
    if not is_new:
        return found
    # Memory used to read a module's code is no longer needed.
    kernel.give_back_memory()
    # Modules stay loaded, and a collection that scans them blocks the loop for 15 ms, also in a stop. Once each only:
    # garbage that is frozen with it is never freed.
    gc.freeze()
    return found


@contextlib.contextmanager
def short_switch_interval() -> Iterator[None]:
    """Shorten the thread switch interval for the duration of a block."""
    sys.setswitchinterval(_SHORT_S)
    try:
        yield
    finally:
        sys.setswitchinterval(_USUAL_S)


class LoopLatency:
    """The delay of the event loop's timers, measured once a second between ``start`` and ``stop``."""

    def __init__(self, every_s: float = MEASURE_EVERY_S) -> None:
        self.seen = Durations()
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring, unless already started."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._measure)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _measure(self) -> None:
        if self._timer is None:
            return
        loop = asyncio.get_running_loop()
        self.seen = self.seen.plus(max(0.0, loop.time() - self._timer.when()))
        self._timer = loop.call_later(self._every_s, self._measure)
