"""Transactions of every client: commit, abort, offsets, fencing, timeouts, and wrong use.

One scenario, told line by line to each client program; what the libraries throw is theirs to name.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from run import Runner

# Longest time for one step of a client.
PATIENCE = 45
# A transaction that is left open, and how long after that it must be gone.
TIMEOUT_MS = 1000
GONE_SECONDS = 2.5
# Above transaction.max.timeout.ms, 15 minutes.
TOO_LONG_MS = 3_600_000
SOURCE = 10
# Transactions one right behind the other, each fifth of them aborted.
MANY = 20
COMMITTED = ["c0", "c1", "c2", "c3", "o0", "o1", "d0", "u0", "u1"]
COMMITTED += [f"m{at}" for at in range(MANY) if at % 5 != 4]
ABORTED = ["a0", "a1", "a2", "a3", "b0", "b1", "t0", "t1"]
ABORTED += [f"m{at}" for at in range(MANY) if at % 5 == 4]

# Words of what each library throws where it is used wrongly, was fenced or was too slow. They are what
# Apache Kafka 4.3.1 makes of it.
WRONG = "commit without begin"
FENCED = "fenced"
AFTER = "use after fencing"
LATE = "commit after the timeout"
LONG = "too long a timeout"
ERRORS: dict[str, dict[str, str]] = {
    "confluent": {
        WRONG: "_STATE",
        FENCED: "_FENCED, fatal",
        AFTER: "_FENCED, fatal",
        LATE: "_FENCED, fatal",
        LONG: "INVALID_TRANSACTION_TIMEOUT, fatal",
    },
    "kafka-python": {
        WRONG: "from state READY to state COMMITTING_TRANSACTION",
        FENCED: "in an error state: [Error 90] ProducerFencedError",
        AFTER: "in an error state: [Error 90] ProducerFencedError",
        LATE: "[Error 90] ProducerFencedError",
        LONG: "[Error 50] InvalidTransactionTimeoutError",
    },
    "aiokafka": {
        WRONG: "TransactionState.READY -> TransactionState.COMMITTING_TRANSACTION",
        FENCED: "TransactionState.FATAL_ERROR -> TransactionState.COMMITTING_TRANSACTION",
        AFTER: "TransactionState.FATAL_ERROR -> TransactionState.IN_TRANSACTION",
        LATE: "ProducerFenced",
        LONG: "InvalidTransactionTimeout",
    },
    "kafkajs": {
        WRONG: "Cannot continue to use transaction once ended",
        FENCED: "INVALID_PRODUCER_EPOCH",
        AFTER: "INVALID_PRODUCER_EPOCH",
        LATE: "INVALID_PRODUCER_EPOCH",
        LONG: "INVALID_TRANSACTION_TIMEOUT",
    },
    "java": {
        WRONG: "from state READY to state COMMITTING_TRANSACTION",
        FENCED: "InvalidProducerEpochException",
        AFTER: "ProducerFencedException",
        LATE: "InvalidTxnStateException",
        LONG: "transaction timeout is larger than the maximum",
    },
    "franz-go": {
        WRONG: "no error",
        FENCED: "PRODUCER_FENCED",
        AFTER: "fatal, unrecoverable error",
        LATE: "INVALID_TXN_STATE",
        LONG: "INVALID_TRANSACTION_TIMEOUT",
    },
    "sarama": {
        WRONG: "invalid transition attempted",
        FENCED: "Error code = 90",
        AFTER: "invalid transition attempted",
        LATE: "Error code = 90",
        LONG: "The transaction timeout is larger than the maximum",
    },
}


class Failed(Exception):
    """A step that did not end as it should."""


class Talk:
    """A client program in its role `transact`."""

    def __init__(self, runner: Runner, client: str) -> None:
        program = runner.programs[client]
        self.client = client
        self.process = subprocess.Popen(
            program.arguments(runner.broker.bootstrap, "transact"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **program.environment},
        )
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.said = b""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._errors, daemon=True).start()
        self._write({})

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(b"")

    def _errors(self) -> None:
        for line in self.process.stderr:
            self.said = (self.said + line)[-2000:]

    def _write(self, line: dict) -> None:
        try:
            self.process.stdin.write(json.dumps(line).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            message = f"the program ended: {self.said.decode(errors='replace')}"
            raise Failed(message) from error

    def ask(self, do: str, **more: object) -> dict:
        """Has one step done and returns its answer."""
        self._write({"do": do, **more})
        try:
            line = self.answers.get(timeout=PATIENCE)
        except queue.Empty:
            message = f"{do} {more}: no answer within {PATIENCE} s"
            raise Failed(message) from None
        if not line:
            message = f"{do} {more}: the program ended: {self.said.decode(errors='replace')}"
            raise Failed(message)
        return json.loads(line)

    def must(self, do: str, **more: object) -> object:
        """Has one step done, which has to succeed."""
        answer = self.ask(do, **more)
        if "error" in answer:
            message = f"{do} {more}: {answer['error']}: {answer.get('why')}"
            raise Failed(message)
        return answer["ok"]

    def first_error(self, *steps: tuple[str, dict]) -> str:
        """Does steps until one fails and returns its error."""
        for do, more in steps:
            answer = self.ask(do, **more)
            if "error" in answer:
                return f"{answer['error']} {answer.get('why', '')}".strip()
        return "no error"

    def close(self) -> None:
        """Ends the program."""
        self.process.kill()
        self.process.wait()


class Scenario:
    """What one client does, with what was found wrong at each step."""

    def __init__(self, runner: Runner, client: str) -> None:
        self.runner = runner
        self.client = client
        self.topic = f"txn.{client}.{runner.stamp}"
        self.source = f"txn-source.{client}.{runner.stamp}"
        self.id = f"txn-{client}-{runner.stamp}"
        self.found: dict[str, str | None] = {}

    def transaction(self, producer: int, values: list[str], end: str) -> None:
        """A whole one."""
        self.talk.must("begin", producer=producer)
        self.talk.must("send", producer=producer, topic=self.topic, values=values)
        self.talk.must(end, producer=producer)

    def run(self) -> dict[str, str | None]:
        """Does all steps; one that fails ends it."""
        step = "start"
        self.talk = Talk(self.runner, self.client)
        try:
            for step, work in (
                ("commit", self.commit),
                ("abort", self.abort),
                ("many", self.many),
                ("offsets in a transaction", self.offsets),
                ("offsets in an aborted transaction", self.aborted_offsets),
                (WRONG, self.commit_without_begin),
                ("fenced by a second producer", self.fenced),
                ("timeout", self.timeout),
                (LONG, self.too_long),
                ("what is read", self.reads),
            ):
                self.found[step] = None
                self.found[step] = work()
        except Failed as problem:
            self.found[step] = str(problem)
        finally:
            self.talk.close()
        return self.found

    def commit(self) -> str | None:
        """The first one takes the id."""
        self.talk.must("open", producer=0, id=self.id, timeout_ms=60_000)
        self.transaction(0, ["c0", "c1"], "commit")
        self.transaction(0, ["c2", "c3"], "commit")

    def abort(self) -> str | None:
        """An aborted one."""
        self.transaction(0, ["a0", "a1", "a2", "a3"], "abort")

    def many(self) -> str | None:
        """The next begins before all markers of the last are written."""
        for at in range(MANY):
            self.transaction(0, [f"m{at}"], "abort" if at % 5 == 4 else "commit")

    def _take(self, end: str, group: str, values: list[str]) -> str | None:
        again = {"producer": 0, "topic": self.source, "group": group, "count": SOURCE, "id": self.id}
        taken = self.talk.must("take", **again)
        if taken != SOURCE:
            return f"{taken} records of {SOURCE} were read"
        self.talk.must("begin", producer=0)
        self.talk.must("send", producer=0, topic=self.topic, values=values)
        self.talk.must("offsets", producer=0)
        self.talk.must(end, producer=0)
        return None

    def offsets(self) -> str | None:
        """What was read is committed with what was written."""
        group = f"{self.id}-a"
        wrong = self._take("commit", group, ["o0", "o1"])
        stored = committed(self.runner.broker.bootstrap, group, self.source)
        return wrong or (None if stored == [5, 5] else f"stored are {stored}, wanted [5, 5]")

    def aborted_offsets(self) -> str | None:
        """And is not where the transaction is aborted."""
        group = f"{self.id}-b"
        wrong = self._take("abort", group, ["b0", "b1"])
        stored = committed(self.runner.broker.bootstrap, group, self.source)
        return wrong or (None if stored == [-1, -1] else f"stored are {stored}, wanted none")

    def _thrown(self, what: str, found: str) -> str | None:
        wanted = ERRORS[self.client][what]
        return None if wanted in found else f"{what}: wanted {wanted!r}, found {found!r}"

    def commit_without_begin(self) -> str | None:
        """The library's word, without asking a broker."""
        self.talk.must("open", producer=5, id=f"{self.id}-w", timeout_ms=60_000)
        return self._thrown(WRONG, self.talk.first_error(("commit", {"producer": 5})))

    def fenced(self) -> str | None:
        """A second producer of the same id; the first cannot go on."""
        self.talk.must("open", producer=1, id=self.id, timeout_ms=60_000)
        self.talk.must("begin", producer=1)
        first = {"producer": 0}
        steps = [("begin", first), ("send", {**first, "topic": self.topic, "values": ["z0", "z1"]})]
        wrong = self._thrown(FENCED, self.talk.first_error(*steps, ("commit", first)))
        self.talk.ask("abort", producer=0)
        again = self._thrown(AFTER, self.talk.first_error(*steps, ("commit", first)))
        self.talk.must("send", producer=1, topic=self.topic, values=["d0"])
        self.talk.must("commit", producer=1)
        return wrong or again

    def timeout(self) -> str | None:
        """What is left open is aborted by the coordinator; the next producer of the id goes on."""
        self.talk.must("open", producer=2, id=f"{self.id}-t", timeout_ms=TIMEOUT_MS)
        self.talk.must("begin", producer=2)
        self.talk.must("send", producer=2, topic=self.topic, values=["t0", "t1"])
        time.sleep(TIMEOUT_MS / 1000 + GONE_SECONDS)
        wrong = self._thrown(LATE, self.talk.first_error(("commit", {"producer": 2})))
        self.talk.must("open", producer=3, id=f"{self.id}-t", timeout_ms=60_000)
        self.transaction(3, ["u0", "u1"], "commit")
        return wrong

    def too_long(self) -> str | None:
        """Longer than the broker allows."""
        steps = ("open", {"producer": 4, "id": f"{self.id}-l", "timeout_ms": TOO_LONG_MS})
        return self._thrown(LONG, self.talk.first_error(steps, ("begin", {"producer": 4})))

    def reads(self) -> str | None:
        """At both isolation levels; the last record of both partitions is a committed one."""
        for isolation, wanted in (
            ("read_committed", COMMITTED),
            ("read_uncommitted", COMMITTED + ABORTED),
        ):
            read = self.talk.must("read", topic=self.topic, isolation=isolation, count=len(wanted))
            if sorted(read) != sorted(wanted):
                return f"{isolation}: {sorted(read)}, wanted {sorted(wanted)}"
        return None


def committed(bootstrap: str, group: str, topic: str) -> list[int]:
    """Asks for the stored offsets of both partitions, -1 for none."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    wanted = [TopicPartition(topic, partition) for partition in range(2)]
    asked = ConsumerGroupTopicPartitions(group, wanted)
    end = time.monotonic() + 5
    while True:
        [answer] = admin.list_consumer_group_offsets([asked], require_stable=True).values()
        try:
            found = answer.result(10).topic_partitions
        except Exception:
            # Apache Kafka answers EndTxn before the markers are written.
            if time.monotonic() > end:
                raise
            continue
        offsets = {one.partition: max(one.offset, -1) for one in found if not one.error}
        if len(offsets) == 2 or time.monotonic() > end:
            return [offsets.get(partition, -2) for partition in range(2)]


def run(runner: Runner) -> None:
    """All clients at the same time."""
    clients = [name for name, program in runner.programs.items() if "transact" in program.roles]
    scenarios = [Scenario(runner, client) for client in clients]
    topics = [topic for one in scenarios for topic in (one.topic, one.source)]
    runner.topics(topics, 2)
    fill(runner, [one.source for one in scenarios])
    with ThreadPoolExecutor(len(scenarios)) as pool:
        results = list(pool.map(Scenario.run, scenarios))
    for client, found in zip(clients, results, strict=True):
        for step, problem in found.items():
            runner.checks.note(f"transactions, {step}, {client}", problem)


def fill(runner: Runner, topics: list[str]) -> None:
    """Writes what the members of groups are to read."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": runner.broker.bootstrap, "log_level": 0})
    for topic in topics:
        for at in range(SOURCE):
            producer.produce(topic, b"%d" % at, partition=at % 2)
    if producer.flush(20):
        message = "the sources could not be written"
        raise Failed(message)
