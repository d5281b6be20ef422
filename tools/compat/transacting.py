"""Producers in transactions inside a client program, told by lines on standard input what to do.

    {"do": "open", "producer": N, "id": ID, "timeout_ms": T}    makes a producer of a transactional id
    {"do": "begin" | "commit" | "abort" | "close", "producer": N}
    {"do": "send", "producer": N, "topic": T, "values": [..]}   to partitions 0, 1, 0, ..., and waits
    {"do": "take", "producer": N, "id": ID, "topic": T, "group": G, "count": C}   reads as the member of a group
    {"do": "offsets", "producer": N}                            of what was taken, in the transaction
    {"do": "read", "topic": T, "isolation": I, "count": C}      the values of a topic, from its beginning

Each is answered by one line, `{"ok": RESULT}` or `{"error": NAME}` with the library's own name of what it
throws. A record that cannot be delivered is no error of `send`: whoever commits is told.
"""

from __future__ import annotations

import json
import sys
from typing import Any

PATIENCE = 20


class Transactor:
    """The producers of one program. A client program says how each step is done."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.producers: dict[int, Any] = {}
        self.consumer: Any = None

    def open(self, producer: int, id: str, timeout_ms: int) -> None:
        """Makes a producer, which fences others of its id."""

    def begin(self, producer: int) -> None:
        """Begins a transaction."""

    def commit(self, producer: int) -> None:
        """Commits it."""

    def abort(self, producer: int) -> None:
        """Aborts it."""

    def close(self, producer: int) -> None:
        """Ends a producer."""

    def send(self, producer: int, topic: str, values: list[str]) -> None:
        """Sends, and waits until every record is stored or has failed."""

    def take(self, producer: int, id: str, topic: str, group: str, count: int) -> int:
        """Reads at read_committed as the only member of a group; returns how many came."""

    def offsets(self, producer: int) -> None:
        """Puts the offsets of what was taken into the transaction."""

    def read(self, topic: str, isolation: str, count: int) -> list[str]:
        """Reads two partitions from their beginning until so many values have come."""

    def error(self, error: Exception) -> str:
        """Returns the name of what was thrown."""
        return type(error).__name__


def transact(make: type[Transactor], bootstrap: str) -> dict[str, Any]:
    """Does what it is told until standard input ends."""
    transactor = make(bootstrap)
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        try:
            answer = {"ok": getattr(transactor, do)(**command)}
        except Exception as error:  # Whatever it is, the driver has to know.
            answer = {"error": transactor.error(error), "why": str(error)}
        print(json.dumps(answer), flush=True)
    return {"ended": True}
