"""Members of a group inside a client program, told by lines on standard input what to do.

    {"do": "join" | "commit" | "leave", "member": N}

Each member prints what happens to it, one line of JSON each: `assigned` with all partitions that it
has after a change, `record`, `committed` with the offsets, `left`, and `failed` with a reason.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from typing import Any

OUTPUT = threading.Lock()


class Member(threading.Thread):
    """One member, polling in a thread of its own. A client program says how each step is done."""

    def __init__(self, bootstrap: str, job: dict[str, Any], member: int) -> None:
        super().__init__(daemon=True)
        self.bootstrap = bootstrap
        self.job = job
        self.member = member
        self.commands: queue.Queue[str] = queue.Queue()
        self.owned: set[int] = set()
        self.positions: dict[int, int] = {}

    def open(self) -> None:
        """Subscribes."""

    def poll(self) -> None:
        """Waits for records for at most a tenth of a second and passes them to `read`."""

    def commit(self, offsets: dict[int, int]) -> dict[int, int] | None:
        """Commits and waits for the answer; says what is committed if that is something else."""

    def close(self) -> None:
        """Leaves."""

    def run(self) -> None:
        """Polls until told to leave."""
        try:
            self.open()
            while (command := self._next()) != "leave":
                if command == "commit":
                    self._commit()
                self.poll()
            self.close()
        except Exception as error:  # Whatever it is, the driver has to know.
            self.tell("failed", what="run", why=f"{type(error).__name__}: {error}")
        self.tell("left")

    def _next(self) -> str | None:
        try:
            return self.commands.get_nowait()
        except queue.Empty:
            return None

    def _commit(self) -> None:
        offsets = dict(self.positions)
        try:
            offsets = self.commit(offsets) or offsets
        except Exception as error:  # Whatever it is, the driver has to know.
            self.tell("failed", what="commit", why=f"{type(error).__name__}: {error}")
        else:
            self.tell("committed", offsets=offsets)

    def read(self, partition: int, offset: int, value: bytes | None) -> None:
        """Takes a record."""
        self.positions[partition] = offset + 1
        self.tell("record", p=partition, o=offset, n=int((value or b"-1").split(b" ", 1)[0]))

    def gained(self, partitions: list[int]) -> None:
        """Takes partitions that were added to the assignment."""
        self.owned |= set(partitions)
        self.tell("assigned", partitions=sorted(self.owned))

    def lost(self, partitions: list[int]) -> None:
        """Takes partitions that were revoked or lost."""
        self.owned -= set(partitions)
        for partition in partitions:
            self.positions.pop(partition, None)
        self.tell("assigned", partitions=sorted(self.owned))

    def tell(self, event: str, **more: Any) -> None:
        """Prints an event."""
        with OUTPUT:
            print(json.dumps({"event": event, "member": self.member, **more}), flush=True)

    def instance(self) -> str | None:
        """Returns the name of a static member."""
        return f"member-{self.member}" if self.job.get("static") else None


def session(make: type[Member], bootstrap: str, job: dict[str, Any]) -> dict[str, Any]:
    """Drives members until standard input ends."""
    members: dict[int, Member] = {}
    for line in sys.stdin:
        command = json.loads(line)
        number = command["member"]
        if command["do"] == "join":
            members[number] = make(bootstrap, job, number)
            members[number].start()
        else:
            members[number].commands.put(command["do"])
    for member in members.values():
        member.commands.put("leave")
    for member in members.values():
        member.join(20)
    return {"ended": True}
