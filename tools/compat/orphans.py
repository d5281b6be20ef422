"""Transactions that nobody ends: workers are killed between staging offsets and their commit.

    orphans.py --binary target/world/mainspring [--rounds N] [--lanes N]

Each start of a worker has a transactional id of its own, so nobody comes back to end what it left open: the
coordinator has to, by the timeout. Until then the group's offsets are unstable, and the next worker waits.
In every second round the broker is killed as well. (redpanda-data/redpanda#6423, #14624, #24445)
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker import Broker
from programs import CLIENTS, Program

if TYPE_CHECKING:
    from broker import Elsewhere

# The timeout of the transactions, and how soon after a kill the next worker has to have committed something: the
# dead member holds its partition for the six seconds of its session meanwhile.
TIMEOUT_MS = 5_000
SECONDS = 15
BATCH = 10
LANES = 6
ROUNDS = 2


class Failed(Exception):
    """What is not as it should be."""


@dataclass
class Lane:
    """One group with its topics, and the worker that it has at the time."""

    name: str
    program: Program
    broker: Broker | Elsewhere
    killed: float = 0.0
    slowest: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    events: queue.Queue[dict | None] = field(default_factory=queue.Queue)

    @property
    def source(self) -> str:
        """The topic that is read."""
        return f"orphan-in.{self.name}"

    @property
    def target(self) -> str:
        """The topic that is written."""
        return f"orphan-out.{self.name}"

    def start(self, number: int, stages_only: bool) -> None:
        """Starts a worker with an id that nobody had before."""
        self.events = queue.Queue()
        self.process = subprocess.Popen(
            self.program.arguments(self.broker.bootstrap, "pipe"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.program.environment},
        )
        job = {
            "source": self.source,
            "target": self.target,
            "group": self.source,
            "id": f"orphan-{self.name}-{number}",
            "timeout_ms": TIMEOUT_MS,
            "batch": BATCH,
            "stage_only": stages_only,
        }
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        threading.Thread(
            target=self._listen, args=(self.process, self.events), daemon=True
        ).start()

    @staticmethod
    def _listen(process: subprocess.Popen[bytes], events: queue.Queue[dict | None]) -> None:
        for line in process.stdout:
            events.put(json.loads(line))
        events.put(None)

    def wait(self, wanted: str, seconds: float) -> None:
        """Waits for an event of the worker."""
        end = time.monotonic() + seconds
        told = []
        while True:
            try:
                event = self.events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                event = None
            if event is None:
                message = f"{self.name}: no {wanted!r} within {seconds:.1f} s, only {told}"
                raise Failed(message)
            if event["event"] == wanted:
                return
            told.append(event)

    def work(self, number: int) -> None:
        """A worker commits one transaction, and has its second one staged when this returns."""
        self.start(number, stages_only=True)
        since = self.killed or time.monotonic()
        self.wait("committed", max(0.0, since + SECONDS - time.monotonic()))
        if self.killed:
            self.slowest = max(self.slowest, time.monotonic() - since)
        self.wait("staged", SECONDS)

    def kill(self) -> None:
        """Pulls the plug on the worker."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.killed = time.monotonic()

    def finish(self, number: int, count: int) -> None:
        """The last worker goes through what is left; every input was written once, in order."""
        from confluent_kafka import Consumer, TopicPartition

        self.start(number, stages_only=False)
        consumer = Consumer({
            "bootstrap.servers": self.broker.bootstrap,
            "group.id": "unused",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 0,
        })
        consumer.assign([TopicPartition(self.target, 0, 0)])
        read: list[int] = []
        end = time.monotonic() + SECONDS
        while len(read) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                read.append(int(message.value()))
        consumer.close()
        self.kill()
        if read != list(range(count)):
            message = f"{self.name}: wanted {count} records in order, read {read}"
            raise Failed(message)


def once(broker: Broker | Elsewhere, program: Program, stamp: str, lanes: int, rounds: int) -> str:
    """Does all rounds and returns what to say of them."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    all_lanes = [Lane(f"{number}.{stamp}", program, broker) for number in range(lanes)]
    topics = [NewTopic(name, 1, 1) for lane in all_lanes for name in (lane.source, lane.target)]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for made in admin.create_topics(topics).values():
        made.result(20)
    count = BATCH * (rounds + 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for lane in all_lanes:
        for number in range(count):
            producer.produce(lane.source, b"%d" % number, partition=0)
    if producer.flush(20):
        message = "the input could not be written"
        raise Failed(message)
    try:
        with ThreadPoolExecutor(lanes) as pool:
            for number in range(rounds):
                list(pool.map(lambda lane: lane.work(number), all_lanes))
                for lane in all_lanes:
                    lane.kill()
                if number % 2 and isinstance(broker, Broker):
                    broker.kill()
                    broker.start()
            list(pool.map(lambda lane: lane.finish(rounds, count), all_lanes))
    finally:
        for lane in all_lanes:
            lane.kill()
    if isinstance(broker, Broker):
        none_is_open(broker, stamp)
    slowest = max(lane.slowest for lane in all_lanes)
    return f"{lanes * rounds} transactions left open; the next commit came {slowest:.1f} s later at most"


def none_is_open(broker: Broker, stamp: str) -> None:
    """Waits until no transaction of these is under way, the last worker's among them."""
    command = [broker.binary, "txn", "list", "-o", "json", "--bootstrap", broker.bootstrap]
    end = time.monotonic() + SECONDS
    while True:
        listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        ours = [one for one in listed if stamp in one["transactional_id"]]
        left = [one for one in ours if one["state"] not in {"Empty", "CompleteCommit", "CompleteAbort"}]
        if ours and not left:
            return
        if time.monotonic() > end:
            message = f"of {len(ours)} transactional ids these are open: {left}"
            raise Failed(message)
        time.sleep(0.2)


def main() -> None:
    """Runs with a broker of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, default=10)
    options = parser.parse_args()
    broker = Broker(options.binary, "group.initial.rebalance.delay.ms=0")
    broker.start()
    try:
        print(once(broker, CLIENTS["confluent"]("confluent"), "x", options.lanes, options.rounds))
    finally:
        broker.close()


if __name__ == "__main__":
    main()
