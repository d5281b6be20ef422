"""Callbacks of deliveries, called on one thread that is started with the first of them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from mainspring import _native

_log = logging.getLogger("mainspring")
_lock = threading.Lock()
_queue: tuple[int, _native.CallbackQueue] | None = None


def add(delivery: _native.Delivery, callback: Callable[[_native.Delivery], object]) -> None:
    """Calls `callback(delivery)` once the delivery is done."""
    global _queue
    with _lock:
        # A forked child has no thread of its parent's.
        if _queue is None or _queue[0] != os.getpid():
            queue = _native.CallbackQueue()
            _queue = (os.getpid(), queue)
            threading.Thread(target=_run, args=(queue,), name="mainspring-callbacks", daemon=True).start()
        _queue[1].watch(delivery, callback)


def _run(queue: _native.CallbackQueue) -> None:
    while True:
        for delivery, callback in queue.take(60.0):
            _call(delivery, callback)


def _call(delivery: _native.Delivery, callback: Callable[[Any], object]) -> None:
    try:
        callback(delivery)
    except Exception:
        _log.exception("a callback of a delivery failed")
