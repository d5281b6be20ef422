"""Many members of one group: all join at once, one leaves, the broker is killed under them.

    crowd.py --binary target/release/mainspring [--kafka LIBRARIES] [--members 60] [--rounds 3]

prints how long each took until the group was stable, beside Apache Kafka's in turn where a folder with
its jars is named. `run.py` runs a small form, in which only what must hold counts: every partition has one
owner at a time, no record is skipped, and no offset that was acknowledged as committed is lost.

The members are confluent-kafka's, in a few processes, with heartbeats of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from broker import Broker, Kafka

PROCESSES = 3
PATIENCE = 90
SESSION_MS = 10_000
HEARTBEAT_MS = 100


class Failed(Exception):
    """Something that must hold did not."""


class Crowd:
    """The driver: starts the processes, and writes down what their members report."""

    def __init__(self, broker, members: int, topic: str) -> None:
        self.broker = broker
        self.count = members
        self.partitions = 2 * members
        self.topic = topic
        self.changed = threading.Condition()
        self.owner: dict[int, set[int]] = defaultdict(set)
        # Partition -> its owners, with the times between which they had it.
        self.spans: dict[int, list[list]] = defaultdict(list)
        self.seen: dict[int, set[int]] = defaultdict(set)
        self.acknowledged: dict[int, int] = {}
        self.acked_records: dict[int, int] = defaultdict(int)
        self.present = set(range(members))
        self.failure: str | None = None
        self.writing = True
        self.workers = [self._worker(at) for at in range(PROCESSES)]

    def _worker(self, at: int) -> subprocess.Popen:
        mine = [member for member in range(self.count) if member % PROCESSES == at]
        words = [sys.executable, __file__, "--worker", json.dumps(mine)]
        words += ["--bootstrap", self.broker.bootstrap, "--topic", self.topic]
        worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if worker.stdout.readline() != "ready\n":
            message = "a process of members did not start"
            raise Failed(message)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: subprocess.Popen) -> None:
        for line in worker.stdout:
            event = json.loads(line)
            with self.changed:
                self._note(event)
                self.changed.notify_all()

    def _note(self, event: dict) -> None:
        kind, member = event["event"], event["member"]
        if kind == "assigned":
            self.owner[member] |= set(event["partitions"])
            for partition in event["partitions"]:
                self.spans[partition].append([event["at"], None, member])
        elif kind == "revoked":
            self.owner[member] -= set(event["partitions"])
            for partition in event["partitions"]:
                for span in self.spans[partition]:
                    if span[2] == member and span[1] is None:
                        span[1] = event["at"]
        elif kind == "read":
            self.seen[event["partition"]].update(event["offsets"])
        elif kind == "committed":
            for partition, offset in event["offsets"].items():
                number = int(partition)
                self.acknowledged[number] = max(offset, self.acknowledged.get(number, 0))
        elif kind == "failed":
            self.failure = event["why"]

    def tell(self, what: str, member: int | None = None) -> None:
        """Tells the process of one member, or all."""
        for at, worker in enumerate(self.workers):
            if member is None or member % PROCESSES == at:
                worker.stdin.write(json.dumps({"do": what, "member": member}) + "\n")
                worker.stdin.flush()

    def wait(self, what: str, holds) -> None:
        """Waits until something holds."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure or holds(), PATIENCE)
            if self.failure or not holds():
                owned = sum(len(some) for some in self.owner.values())
                message = f"{what}: {self.failure or f'not after {PATIENCE} s'}; {owned} owned"
                raise Failed(message)

    def stable(self) -> bool:
        """Says whether the members that are present have all partitions, each once."""
        owned = sorted(one for member in self.present for one in self.owner[member])
        return owned == list(range(self.partitions)) and all(self.owner[one] for one in self.present)

    def progress(self) -> dict[int, int]:
        """Returns how many records of each partition were read."""
        return {partition: len(self.seen[partition]) for partition in range(self.partitions)}

    def run(self) -> dict[str, float]:
        """Goes through it all, and returns the seconds that each step took until stable."""
        self._make_topic()
        writer = threading.Thread(target=self._write, daemon=True)
        writer.start()
        took = {}
        start = time.monotonic()
        self.tell("join")
        self.wait("all join", self.stable)
        took["all join"] = time.monotonic() - start
        self._moves_on("after all joined")

        start = time.monotonic()
        self.present.discard(0)
        self.tell("leave", 0)
        self.wait("one leaves", self.stable)
        took["one leaves"] = time.monotonic() - start
        self._moves_on("after one left")

        with self.changed:
            before = dict(self.acknowledged)
        self.broker.kill()
        start = time.monotonic()
        self.broker.start()
        took["broker starts again"] = time.monotonic() - start
        self._not_lost(before)
        self._moves_on("after the kill")
        self.wait("stable after the kill", self.stable)
        took["all read again after the kill"] = time.monotonic() - start

        self.writing = False
        writer.join(60)
        self.wait("the rest", lambda: all(len(self.seen[p]) >= n for p, n in self.acked_records.items()))
        self._check()
        return took

    def _moves_on(self, when: str) -> None:
        """Waits until every partition was read on, which all owners must be at work for."""
        with self.changed:
            before = self.progress()
        self.wait(
            f"every partition is read {when}",
            lambda: all(now > before[partition] for partition, now in self.progress().items()),
        )

    def _make_topic(self) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(self.topic, self.partitions, 1)])[self.topic].result(30)

    def _write(self) -> None:
        from confluent_kafka import Producer

        producer = Producer({
            "bootstrap.servers": self.broker.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        })

        def note(error, message) -> None:
            if error is None:
                self.acked_records[message.partition()] += 1

        number = 0
        while self.writing:
            for partition in range(self.partitions):
                producer.produce(self.topic, b"%d" % number, partition=partition, on_delivery=note)
            number += 1
            producer.poll(0.1)
        producer.flush(60)

    def _not_lost(self, before: dict[int, int]) -> None:
        """Checks what the broker has of what it acknowledged before it was killed."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        asker = Consumer({
            "bootstrap.servers": self.broker.bootstrap,
            "group.id": self.topic,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        })
        asked = [TopicPartition(self.topic, partition) for partition in before]
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answer = asker.committed(asked, 60)
                break
            except KafkaException:
                # The coordinator may still be on its way.
                if time.monotonic() > end:
                    raise
        for found in answer:
            if found.offset < before[found.partition]:
                had = before[found.partition]
                message = f"partition {found.partition}: {had} was committed, {found.offset} is left"
                raise Failed(message)
        asker.close()

    def _check(self) -> None:
        with self.changed:
            for partition, offsets in self.seen.items():
                missing = set(range(max(offsets) + 1)) - offsets
                if missing:
                    message = f"partition {partition}: offset {min(missing)} was skipped"
                    raise Failed(message)
            for partition, spans in self.spans.items():
                ordered = sorted(spans, key=lambda span: span[0])
                for (_, end, one), (begin, _, two) in zip(ordered, ordered[1:], strict=False):
                    if one != two and (end is None or end > begin):
                        message = f"partition {partition} had two owners, {one} and {two}"
                        raise Failed(message)

    def close(self) -> None:
        """Ends the processes."""
        self.writing = False
        for worker in self.workers:
            worker.stdin.close()
        for worker in self.workers:
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()


class Members:
    """Some members in this process, polled in turn."""

    def __init__(self, bootstrap: str, topic: str, numbers: list[int]) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.numbers = numbers
        self.consumers: dict[int, object] = {}
        self.commands: list[dict] = []

    def tell(self, event: str, member: int, **more) -> None:
        """Prints an event."""
        print(json.dumps({"event": event, "member": member, "at": time.monotonic(), **more}), flush=True)

    def join(self, member: int) -> None:
        """Makes a consumer and subscribes it."""
        from confluent_kafka import Consumer

        def committed(error, partitions) -> None:
            if error is None:
                offsets = {one.partition: one.offset for one in partitions if one.offset >= 0}
                self.tell("committed", member, offsets=offsets)

        consumer = Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": self.topic,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "partition.assignment.strategy": "range",
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 200,
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            "on_commit": committed,
            "log_level": 0,
        })

        def numbers(partitions) -> list[int]:
            return [one.partition for one in partitions]

        consumer.subscribe(
            [self.topic],
            on_assign=lambda _, given: self.tell("assigned", member, partitions=numbers(given)),
            on_revoke=lambda _, taken: self.tell("revoked", member, partitions=numbers(taken)),
        )
        self.consumers[member] = consumer

    def run(self) -> None:
        """Does what it is told until standard input ends."""
        print("ready", flush=True)
        threading.Thread(target=self._listen, daemon=True).start()
        on = True
        while on:
            while self.commands:
                command = self.commands.pop(0)
                on = on and command["do"] != "end"
                if command["do"] == "join":
                    for member in self.numbers:
                        self.join(member)
                elif command["do"] == "leave":
                    self.consumers.pop(command["member"]).close()
            for member, consumer in list(self.consumers.items()):
                self.poll(member, consumer)
            time.sleep(0.01)
        for consumer in self.consumers.values():
            consumer.close()

    def poll(self, member: int, consumer) -> None:
        """Takes what one member has."""
        read = defaultdict(list)
        for message in consumer.consume(500, 0):
            if not message.error():
                read[message.partition()].append(message.offset())
        for partition, offsets in read.items():
            self.tell("read", member, partition=partition, offsets=offsets)

    def _listen(self) -> None:
        for line in sys.stdin:
            self.commands.append(json.loads(line))
        self.commands.append({"do": "end"})


def once(broker, members: int, topic: str) -> dict[str, float]:
    """Runs it once against a broker that runs."""
    crowd = Crowd(broker, members, topic)
    try:
        return crowd.run()
    finally:
        crowd.close()


def main() -> None:
    """Compares brokers in turn, or is one of the processes of members."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", metavar="PATH")
    parser.add_argument("--kafka", metavar="LIBRARIES", type=Path)
    parser.add_argument("--members", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        Members(options.bootstrap, options.topic, json.loads(options.worker)).run()
        return
    brokers = {}
    if options.binary:
        brokers["Mainspring"] = Broker(options.binary, "group.initial.rebalance.delay.ms=0")
    if options.kafka:
        brokers["Apache Kafka"] = Kafka(options.kafka)
    for broker in brokers.values():
        broker.start()
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    try:
        for number in range(options.rounds):
            for name, broker in brokers.items():
                for step, seconds in once(broker, options.members, f"crowd-{number}").items():
                    results[step][name].append(seconds)
    finally:
        for broker in brokers.values():
            broker.close()
    print(f"{options.members} members, {2 * options.members} partitions; least - median - greatest, in s\n")
    print(f"| step | {' | '.join(brokers)} |\n|---|{'---|' * len(brokers)}")
    for step, by_name in results.items():
        cells = []
        for name in brokers:
            values = sorted(by_name[name])
            cells.append(f"{values[0]:.2f} - {values[len(values) // 2]:.2f} - {values[-1]:.2f}")
        print(f"| {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
