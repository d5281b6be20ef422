"""Callbacks of deliveries, called on one thread that is started with the first of them."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from mainspring import _native

_log = logging.getLogger("mainspring")
_lock = threading.Lock()
_queue: tuple[int, _native.CallbackQueue] | None = None
_numbers = itertools.count()
# Deliveries whose callbacks have not returned, and those who wait for some of them.
_waiting: dict[int, _native.Delivery] = {}
_awaited: list[tuple[set[int], Callable[[], object]]] = []
_thread: threading.Thread | None = None


def add(delivery: _native.Delivery, callback: Callable[[_native.Delivery], object]) -> None:
    """Calls `callback(delivery)` once the delivery is done."""
    global _queue, _thread
    with _lock:
        # A forked child has no thread of its parent's.
        if _queue is None or _queue[0] != os.getpid():
            queue = _native.CallbackQueue()
            _queue = (os.getpid(), queue)
            _waiting.clear()
            _awaited.clear()
            _thread = threading.Thread(target=_run, args=(queue,), name="mainspring-callbacks", daemon=True)
            _thread.start()
        number = next(_numbers)
        _waiting[number] = delivery

        def called(done: _native.Delivery) -> None:
            _call(done, callback)
            _note(number)

        _queue[1].watch(delivery, called)


def settle(settled: Callable[[], object]) -> bool:
    """Calls `settled()` once the callbacks have returned of all deliveries that are done by now; false where none is
    under way, or where one of them asks."""
    if _queue is None or _queue[0] != os.getpid() or threading.current_thread() is _thread:
        return False
    with _lock:
        due = {number for number, delivery in _waiting.items() if delivery.done()}
        if due:
            _awaited.append((due, settled))
        return bool(due)


def _run(queue: _native.CallbackQueue) -> None:
    while True:
        for delivery, called in queue.take(60.0):
            called(delivery)


def _call(delivery: _native.Delivery, callback: Callable[[Any], object]) -> None:
    try:
        callback(delivery)
    except BaseException:
        # Also `sys.exit()` ends the callback alone: others, and who waits for them, depend on this thread.
        _log.exception("a callback of a delivery failed")


def _note(number: int) -> None:
    with _lock:
        _waiting.pop(number, None)
        for due, _ in _awaited:
            due.discard(number)
        settled = [told for due, told in _awaited if not due]
        _awaited[:] = [(due, told) for due, told in _awaited if due]
    for told in settled:
        told()
