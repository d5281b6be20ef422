"""kcat, with Debian's older librdkafka: the strictest about falling back to older versions."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import threading
import time

import common
from common import Record
from members import Member

KEY, RECORD = b"\x1f", b"\x1e"


class KcatMember(Member):
    """A member of a group: `kcat -G`, which commits by itself."""

    def open(self) -> None:
        """Subscribes."""
        settings = {
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 100,
            "session.timeout.ms": self.job["session_ms"],
            "heartbeat.interval.ms": self.job["heartbeat_ms"],
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.max.ms": 500,
        }
        command = ["kcat", "-b", self.bootstrap, "-E", "-u", "-f", "%p %o %s\n"]
        for name, value in settings.items():
            command += ["-X", f"{name}={value}"]
        self.child = subprocess.Popen(
            [*command, "-G", self.job["group"], self.job["topic"]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[tuple[str, str]] = queue.Queue()
        for kind, pipe in (("out", self.child.stdout), ("said", self.child.stderr)):
            threading.Thread(target=self._gather, args=(kind, pipe), daemon=True).start()

    def _gather(self, kind: str, pipe) -> None:
        for line in pipe:
            self.lines.put((kind, line))

    def poll(self) -> None:
        """Takes what it printed."""
        try:
            kind, line = self.lines.get(timeout=0.05)
        except queue.Empty:
            return
        if kind == "out":
            partition, offset, value = line.split(" ", 2)
            self.read(int(partition), int(offset), value.encode())
        elif " rebalanced " in line:
            partitions = [int(one) for one in re.findall(r"\[(\d+)\]", line)]
            if "assigned" in line:
                self.gained(partitions)
            else:
                self.lost(partitions)

    def commit(self, offsets: dict[int, int]) -> dict[int, int]:
        """Waits until it has; it does so before it gives up partitions, too."""
        from confluent_kafka import Consumer, TopicPartition

        asker = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.job["group"]})
        wanted = [TopicPartition(self.job["topic"], partition) for partition in self.owned]
        end = time.monotonic() + 20
        while True:
            found = {one.partition: one.offset for one in asker.committed(wanted, 10)}
            if all(found[partition] >= offset for partition, offset in offsets.items()):
                return found
            if time.monotonic() > end:
                message = "it has not committed"
                raise RuntimeError(message)

    def close(self) -> None:
        """Leaves."""
        self.child.terminate()
        self.child.wait(20)


class Kcat:
    """The command kcat."""

    name = "kcat"
    member = KcatMember

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def _call(self, arguments: list[str], data: bytes = b"", timeout: float = 30) -> bytes:
        command = ["kcat", "-b", self.bootstrap, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=timeout, check=False)
        if done.returncode:
            message = f"{' '.join(command)}: {done.stderr.decode(errors='replace')}"
            raise RuntimeError(message)
        return done.stdout

    def variants(self) -> list[tuple[str, str]]:
        """Has all."""
        return common.all_variants()

    def plan(self, seed: int, now: int) -> list[Record]:
        """Sends what a line can hold; its times are always the current ones."""
        shapes: list[tuple[bytes | None, bytes | None]] = [
            (b"key", b"value"),
            (b"key", None),
            (None, b"value"),
            (None, None),
            (b"long", b"compressible " * 2000),
            (b"line", b"two\nlines\tand\x00zero"),
        ]
        # Headers are given once a call, so they go with the second partition.
        headers: list[list[tuple[str, bytes | None]]] = [
            [],
            [("a", b"1"), ("a", b"2"), ("b", b""), ("\u00e9t\u00e9", b"text")],
        ]
        return [
            Record(partition, key, value, list(some))
            for partition, some in enumerate(headers)
            for key, value in shapes
        ]

    def write(self, topic: str, records: list[Record], codec: str, acks: str) -> list[int | None]:
        """Sends records; kcat tells no offsets."""
        groups: dict[tuple[int, str], list[Record]] = {}
        for record in records:
            groups.setdefault((record.partition, repr(record.headers)), []).append(record)
        for (partition, _), group in groups.items():
            arguments = ["-P", "-t", topic, "-p", str(partition), "-Z", "-K", "\\x1f", "-D", "\\x1e"]
            arguments += ["-z", codec, "-X", f"acks={'all' if acks == 'idempotent' else acks}"]
            if acks == "idempotent":
                arguments += ["-X", "enable.idempotence=true"]
            for name, value in group[0].headers:
                arguments += ["-H", name if value is None else f"{name}={value.decode()}"]
            lines = [(record.key or b"") + KEY + (record.value or b"") for record in group]
            self._call(arguments, RECORD.join(lines))
        return [None] * len(records)

    def read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        """Reads from the beginning by assignment until as many records are there."""
        end = time.monotonic() + timeout
        while True:
            records = []
            for partition in range(partitions):
                records += self._read(topic, partition, "beginning")
            if len(records) >= count or time.monotonic() > end:
                return records
            time.sleep(0.2)

    def _read(self, topic: str, partition: int, start: str, limit: int = 0) -> list[Record]:
        form = "%p %o %T %K %S\n%k%s%h\n"
        arguments = ["-C", "-t", topic, "-p", str(partition), "-o", start, "-e", "-q", "-f", form]
        # The end is told by an empty answer, which the default lets wait for half a second.
        arguments += ["-X", "fetch.wait.max.ms=10"]
        if limit:
            arguments += ["-c", str(limit)]
        return list(_parse(self._call(arguments)))

    def lookup(self, topic: str, partition: int, timestamp: int) -> tuple[int, Record | None]:
        """Asks for an offset by time and reads there."""
        answer = self._call(["-Q", "-J", "-t", f"{topic}:{partition}:{timestamp}"])
        offset = json.loads(answer)[topic][str(partition)]["offset"]
        found = self._read(topic, partition, str(offset), 1) if offset >= 0 else []
        return max(offset, -1), next(iter(found), None)

    def hold(self, topic: str, count: int, pause: float) -> int:
        """Sends numbered records with pauses; all of them count if kcat ends well."""
        arguments = ["-P", "-E", "-t", topic, "-p", "0", "-X", "enable.idempotence=true"]
        command = ["kcat", "-b", self.bootstrap, *arguments, "-X", "reconnect.backoff.max.ms=500"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            for number in range(count):
                os.write(child.stdin.fileno(), common.numbered(number) + b"\n")
                time.sleep(pause)
            child.stdin.close()
            return count if child.wait(60) == 0 else 0


def _parse(data: bytes):
    """Reads kcat's output by the lengths in each line, since keys and values are raw."""
    while data:
        line, data = data.split(b"\n", 1)
        partition, offset, timestamp, key_length, value_length = (int(word) for word in line.split())
        key, data = _take(data, key_length)
        value, data = _take(data, value_length)
        text, data = data.split(b"\n", 1)
        headers: list[tuple[str, bytes | None]] = []
        for pair in text.decode().split(",") if text else []:
            name, _, content = pair.partition("=")
            headers.append((name, content.encode()))
        yield Record(partition, key, value, headers, timestamp, offset)


def _take(data: bytes, length: int) -> tuple[bytes | None, bytes]:
    return (None, data) if length < 0 else (data[:length], data[length:])


if __name__ == "__main__":
    common.main(Kcat)
