"""The bridge from the threads of clients to an event loop: one descriptor for each loop, and no thread
pool. Answers are queued without the interpreter's lock; the loop takes all that have come at once.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Generator
from typing import Any

from mainspring import _native
from mainspring.errors import OperationTimeout

_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _native.Bridge]
_bridges = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def bridge(loop: asyncio.AbstractEventLoop) -> _native.Bridge:
    """The bridge of a loop, made at its first use."""
    with _lock:
        known = _bridges.get(loop)
        if known is None:
            # What still waits for a closed loop holds on to it, and nobody will ever come for it.
            for other in list(_bridges):
                if other.is_closed():
                    del _bridges[other]
            known = _native.Bridge()
            loop.add_reader(known.fileno(), known.drain)
            _bridges[loop] = known
        return known


def watch(call: _native.Call) -> asyncio.Future[None]:
    """A future of the running loop that is resolved once an answer is there."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    bridge(loop).watch(call, future)
    return future


def wait_for_delivery(
    delivery: _native.Delivery,
) -> Generator[Any, None, _native.RecordMetadata]:
    """Waits for a delivery that is not done."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    bridge(loop).watch(delivery, future)
    return _resumed(delivery, future)


def _resumed(
    delivery: _native.Delivery, future: asyncio.Future[None]
) -> Generator[Any, None, _native.RecordMetadata]:
    yield from future.__await__()
    return delivery._metadata()


async def done(call: _native.Call, timeout: float | None = None) -> bool:
    """Waits until an answer is there, for so many seconds, and tells whether it is."""
    if call.done():
        return True
    future = watch(call)
    if timeout is None:
        await future
        return True
    try:
        async with asyncio.timeout(timeout):
            await future
    except TimeoutError:
        return call.done()
    return True


async def wait(call: _native.Call, timeout: float | None, what: str) -> Any:
    """Waits for an answer and returns it."""
    if not await done(call, timeout):
        raise OperationTimeout(f"{what} took longer than {timeout} s; it may still come to its end")
    return call.take()
