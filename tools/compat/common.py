"""What the client programs share: records as JSON, roles, and the command line.

Each program drives one client library, in a process of its own, in one of these roles:

    write    sends the records of a plan, over codecs and acknowledgement levels
    read     reads topics from their beginning, by assignment
    lookup   asks for offsets by timestamp and reads from there
    hold     sends records one after the other while a broker goes away and comes back
    follow   reads a topic to a given count across the same
    admin    makes, shows, changes and deletes a topic and a group
    session  is several members of a group, told by further lines what to do
    transact is producers in transactions, told by further lines what to do
    pipe     is a worker of a pipeline with transactions, until it is killed

A role gets its arguments as one JSON object and prints one JSON line with its result. Alone,
`PROGRAM --bootstrap HOST:PORT` writes and reads back everything by itself and prints the counts.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import members
import pipes
import transacting

PARTITIONS = 2
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ACKS = ("0", "1", "all", "idempotent")


@dataclass
class Record:
    """One record as every client sees it. A timestamp of None is left to the client."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int | None = None
    offset: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the record with its bytes in base64."""
        return {
            "p": self.partition,
            "k": _text(self.key),
            "v": _text(self.value),
            "h": [[name, _text(value)] for name, value in self.headers],
            "t": self.timestamp,
            "o": self.offset,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Record:
        """Reads what `to_json` made."""
        headers = [(name, _bytes(value)) for name, value in data["h"]]
        key, value = _bytes(data["k"]), _bytes(data["v"])
        return Record(data["p"], key, value, headers, data["t"], data["o"])


class Client(Protocol):
    """One client library."""

    name: str
    bootstrap: str
    # How it takes part in a group.
    member: type[members.Member]
    # How it takes part in transactions.
    transactor: type[transacting.Transactor]

    def write(self, topic: str, records: list[Record], codec: str, acks: str) -> list[int | None]:
        """Sends records and returns their offsets, None where no acknowledgement was asked for."""

    def read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        """Reads from the beginning by assignment until `count` records or the timeout."""

    def lookup(self, topic: str, partition: int, timestamp: int) -> tuple[int, Record | None]:
        """Returns the first offset at or after a time, -1 for none, and the record read there."""

    def hold(self, topic: str, count: int, pause: float) -> int:
        """Sends `count` numbered records with pauses, and returns how many were acknowledged."""

    def admin(self, topic: str, group: str | None) -> list[tuple[str, Any]]:
        """Returns the steps of its admin client."""

    def variants(self) -> list[tuple[str, str]]:
        """Returns the pairs of codec and acknowledgement level that the library has."""

    def plan(self, seed: int, now: int) -> list[Record]:
        """Returns records of every shape that the library can send."""


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def all_variants() -> list[tuple[str, str]]:
    """Returns every codec with every acknowledgement level."""
    return [(codec, acks) for codec in CODECS for acks in ACKS]


def full_plan(seed: int, now: int) -> list[Record]:
    """Returns records with null, empty, binary and long parts, at times a minute apart."""
    source = random.Random(seed)
    keys = [None, b"", b"key", bytes(range(256))]
    values = [None, b"", b"value", source.randbytes(1024), b"compressible " * 2000]
    headers: list[list[tuple[str, bytes | None]]] = [
        [],
        [("a", b"1")],
        [("a", b"1"), ("a", b"2"), ("b", b""), ("\u00e9t\u00e9", b"text")],
    ]
    shapes = [(key, value) for key in keys for value in values]
    start = now - 60_000 * len(shapes) * PARTITIONS
    return [
        Record(partition, key, value, headers[at % 3], start + 60_000 * (PARTITIONS * at + partition))
        for at, (key, value) in enumerate(shapes)
        for partition in range(PARTITIONS)
    ]


def difference(sent: list[Record], read: list[Record], loose_headers: bool = False) -> str | None:
    """Says how what was read differs from what was sent, None where nothing does.

    `loose_headers` is for a reader that prints a null header and the text NULL alike.
    """
    if len(sent) != len(read):
        return f"sent {len(sent)} records, read {len(read)}"
    for partition in sorted({record.partition for record in sent}):
        ours = [record for record in sent if record.partition == partition]
        theirs = [record for record in read if record.partition == partition]
        if len(ours) != len(theirs):
            return f"partition {partition}: sent {len(ours)}, read {len(theirs)}"
        for at, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            where = f"partition {partition}, record {at}"
            if one.key != two.key or one.value != two.value:
                return f"{where}: key or value differs: {short(one)} / {short(two)}"
            if _headers(one, loose_headers) != _headers(two, loose_headers):
                return f"{where}: headers differ: {one.headers} / {two.headers}"
            if one.timestamp is not None and one.timestamp != two.timestamp:
                return f"{where}: timestamp {one.timestamp} / {two.timestamp}"
            if one.offset is not None and one.offset != two.offset:
                return f"{where}: acknowledged at {one.offset}, read at {two.offset}"
    return None


def _headers(record: Record, loose: bool) -> list[tuple[str, bytes | None]]:
    if not loose:
        return list(record.headers)
    return [(name, b"NULL" if value is None else value) for name, value in record.headers]


def short(record: Record) -> str:
    """Returns a record as text for a message."""
    return f"{record.partition}@{record.offset} {record.key!r:.40} {record.value!r:.40}"


def number_of(value: bytes | None) -> int:
    """Reads the number that `hold` wrote."""
    return int((value or b"-1").split(b" ", 1)[0])


def numbered(number: int) -> bytes:
    """Returns the value that `hold` writes."""
    return b"%d " % number + b"." * 200


def _write(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    sent = {}
    for topic, variant in job["topics"].items():
        records = [Record.from_json(data) for data in variant["records"]]
        offsets = client.write(topic, records, variant["codec"], variant["acks"])
        sent[topic] = offsets
    return {"client": client.name, "sent": sent}


def _read(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for topic, wanted in job["topics"].items():
        records = client.read(topic, wanted["partitions"], wanted["count"], job.get("timeout", 20))
        records.sort(key=lambda record: (record.partition, record.offset))
        found[topic] = [record.to_json() for record in records]
    return {"client": client.name, "read": found}


def _lookup(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    answers = []
    for topic, partition, timestamp in job["questions"]:
        offset, record = client.lookup(topic, partition, timestamp)
        answers.append([offset, record.to_json() if record else None])
    return {"client": client.name, "answers": answers}


def _hold(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    return {"client": client.name, "acked": client.hold(job["topic"], job["count"], job["pause"])}


def _follow(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    records = client.read(job["topic"], 1, job["count"], job["timeout"])
    return {"client": client.name, "numbers": [number_of(record.value) for record in records]}


def _admin(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for name, work in client.admin(job["topic"], job["group"]):
        try:
            steps[name] = work()
        except Exception as error:  # Whatever it is, it is what the step found.
            steps[name] = f"{type(error).__name__}: {error}"
    return {"client": client.name, "steps": steps}


def _session(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    return members.session(client.member, client.bootstrap, job)


def _transact(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    return transacting.transact(client.transactor, client.bootstrap)


def _pipe(client: Client, job: dict[str, Any]) -> None:
    pipes.confluent(client.bootstrap, job)


ROLES = {
    "write": _write,
    "read": _read,
    "lookup": _lookup,
    "hold": _hold,
    "follow": _follow,
    "admin": _admin,
    "session": _session,
    "transact": _transact,
    "pipe": _pipe,
}


def _alone(client: Client) -> dict[str, Any]:
    """Writes and reads back every variant with one client."""
    stamp = int(time.time())
    counts = {"client": client.name, "variants": 0, "records": 0, "failed": []}
    for codec, acks in client.variants():
        topic = f"alone-{client.name}-{codec}-{acks}-{stamp}"
        records = client.plan(stamp, stamp * 1000)
        for record, offset in zip(records, client.write(topic, records, codec, acks), strict=True):
            record.offset = offset
        partitions = 1 + max(record.partition for record in records)
        read = client.read(topic, partitions, len(records), 20)
        read.sort(key=lambda record: (record.partition, record.offset))
        problem = difference(records, read, client.name == "kcat")
        if problem:
            counts["failed"].append(f"{codec} {acks}: {problem}")
        counts["variants"] += 1
        counts["records"] += len(read)
    return counts


def main(make: Any) -> None:
    """Runs one program: `make(bootstrap)` returns its client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--role", choices=sorted(ROLES), help="its arguments come as JSON on stdin")
    options = parser.parse_args()
    # The libraries report as errors what they then try again, such as a topic being made.
    logging.disable(logging.CRITICAL)
    client = make(options.bootstrap)
    if options.role:
        result = ROLES[options.role](client, json.loads(sys.stdin.readline()))
        print(json.dumps(result), flush=True)
        return
    result = _alone(client)
    print(json.dumps(result), flush=True)
    if result["failed"] or not result["records"]:
        raise SystemExit(1)
