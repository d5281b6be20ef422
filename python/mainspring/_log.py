"""Warnings in the log `mainspring` about brokers that go away and come back and about positions that are gone
with their logs, from one thread that is started with the first client.
"""

from __future__ import annotations

import logging
import os
import threading

from mainspring import _native

_log = logging.getLogger("mainspring")
_lock = threading.Lock()
_process: int | None = None


def begin() -> None:
    """Logs from here on what clients of this process have to tell."""
    global _process
    with _lock:
        # A forked child has no thread of its parent's.
        if _process != os.getpid():
            _process = os.getpid()
            threading.Thread(target=_run, name="mainspring-log", daemon=True).start()


def drain() -> None:
    """Logs what nobody has taken yet, at the end of the program."""
    if _process == os.getpid():
        for told in _native._told(0.0):
            _log.warning(told)


def _run() -> None:
    while True:
        for told in _native._told(3600.0):
            _log.warning(told)
