"""confluent-kafka, which is librdkafka behind a Python face."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import administration
import common
from common import Record
from members import Member
from transacting import PATIENCE, Transactor


class ConfluentMember(Member):
    """A member of a group."""

    def open(self) -> None:
        """Subscribes."""
        settings = {
            "bootstrap.servers": self.bootstrap,
            "group.id": self.job["group"],
            "partition.assignment.strategy": self.job["strategy"],
            "session.timeout.ms": self.job["session_ms"],
            "heartbeat.interval.ms": self.job["heartbeat_ms"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
        if self.instance():
            settings["group.instance.id"] = self.instance()
        self.consumer = Consumer(settings)

        def gained(_consumer, partitions) -> None:
            self.gained([one.partition for one in partitions])

        def lost(_consumer, partitions) -> None:
            self.lost([one.partition for one in partitions])

        self.consumer.subscribe([self.job["topic"]], on_assign=gained, on_revoke=lost, on_lost=lost)

    def poll(self) -> None:
        """Takes what is there."""
        for message in self.consumer.consume(100, 0.05):
            if not message.error():
                self.read(message.partition(), message.offset(), message.value())

    def commit(self, offsets: dict[int, int]) -> None:
        """Commits and waits."""
        topic = self.job["topic"]
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        self.consumer.commit(offsets=wanted, asynchronous=False)

    def close(self) -> None:
        """Leaves."""
        self.consumer.close()


class ConfluentTransactor(Transactor):
    """Producers in transactions."""

    def open(self, producer: int, id: str, timeout_ms: int) -> None:
        """Makes a producer."""
        made = Producer({
            "bootstrap.servers": self.bootstrap,
            "transactional.id": id,
            "transaction.timeout.ms": timeout_ms,
            "linger.ms": 0,
            "log_level": 0,
        })
        made.init_transactions(PATIENCE)
        self.producers[producer] = made

    def begin(self, producer: int) -> None:
        """Begins."""
        self.producers[producer].begin_transaction()

    def commit(self, producer: int) -> None:
        """Commits."""
        self.producers[producer].commit_transaction(PATIENCE)

    def abort(self, producer: int) -> None:
        """Aborts."""
        self.producers[producer].abort_transaction(PATIENCE)

    def close(self, producer: int) -> None:
        """Drops it."""
        del self.producers[producer]

    def send(self, producer: int, topic: str, values: list[str]) -> None:
        """Sends and waits."""
        sender = self.producers[producer]
        for at, value in enumerate(values):
            sender.produce(topic, value.encode(), partition=at % 2)
        sender.flush(PATIENCE)

    def take(self, producer: int, id: str, topic: str, group: str, count: int) -> int:
        """Reads as a member of a group."""
        self.consumer = Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        })
        self.consumer.subscribe([topic])
        return len(self._poll(self.consumer, count))

    def offsets(self, producer: int) -> None:
        """Puts the positions into the transaction."""
        positions = self.consumer.position(self.consumer.assignment())
        member = self.consumer.consumer_group_metadata()
        try:
            self.producers[producer].send_offsets_to_transaction(positions, member, PATIENCE)
        finally:
            self.consumer.close()

    def read(self, topic: str, isolation: str, count: int) -> list[str]:
        """Reads by assignment."""
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": "unused",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "log_level": 0,
        })
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
        values = self._poll(consumer, count)
        consumer.close()
        return values

    def _poll(self, consumer: Consumer, count: int) -> list[str]:
        values = []
        end = time.monotonic() + PATIENCE
        while len(values) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                values.append(message.value().decode())
        return values

    def error(self, error: Exception) -> str:
        """Returns the code, and what may be done about it."""
        if not isinstance(error, KafkaException):
            return super().error(error)
        cause = error.args[0]
        marks = [
            word
            for word, is_so in (
                ("fatal", cause.fatal()),
                ("retriable", cause.retriable()),
                ("requires abort", cause.txn_requires_abort()),
            )
            if is_so
        ]
        return ", ".join([cause.name(), *marks])


class Confluent:
    """The client of Confluent."""

    name = "confluent"
    member = ConfluentMember
    transactor = ConfluentTransactor

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def variants(self) -> list[tuple[str, str]]:
        """Has all."""
        return common.all_variants()

    def plan(self, seed: int, now: int) -> list[Record]:
        """Sends every shape, null headers among them."""
        records = common.full_plan(seed, now)
        records[1].headers = [("null", None), ("a", b"1")]
        return records

    def write(self, topic: str, records: list[Record], codec: str, acks: str) -> list[int | None]:
        """Sends records and returns their offsets."""
        producer = Producer({
            "bootstrap.servers": self.bootstrap,
            "compression.type": codec,
            "acks": "all" if acks == "idempotent" else acks,
            "enable.idempotence": acks == "idempotent",
            "linger.ms": 5,
            "log_level": 0,
        })
        offsets: list[int | None] = [None] * len(records)
        errors: list[KafkaError] = []

        def delivered(at: int):
            def note(error, message) -> None:
                if error:
                    errors.append(error)
                elif acks != "0":
                    offsets[at] = message.offset()

            return note

        for at, record in enumerate(records):
            options = {} if record.timestamp is None else {"timestamp": record.timestamp}
            producer.produce(
                topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=delivered(at),
                headers=record.headers,
                **options,
            )
            producer.poll(0)
        left = producer.flush(20)
        if left or errors:
            message = f"{topic}: {left} not delivered, {errors[:1]}"
            raise RuntimeError(message)
        return offsets

    def _consumer(self) -> Consumer:
        return Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        })

    def read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        """Reads from the beginning by assignment."""
        consumer = self._consumer()
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        records = self._poll(consumer, count, timeout)
        consumer.close()
        return records

    def _poll(self, consumer: Consumer, count: int, timeout: float) -> list[Record]:
        records = []
        end = time.monotonic() + timeout
        while len(records) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            records.append(
                Record(
                    message.partition(),
                    message.key(),
                    message.value(),
                    message.headers() or [],
                    message.timestamp()[1],
                    message.offset(),
                )
            )
        return records

    def lookup(self, topic: str, partition: int, timestamp: int) -> tuple[int, Record | None]:
        """Asks for an offset by time and reads there."""
        consumer = self._consumer()
        [found] = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=10)
        record = None
        if found.offset >= 0:
            consumer.assign([found])
            record = next(iter(self._poll(consumer, 1, 10)), None)
        consumer.close()
        return max(found.offset, -1), record

    def hold(self, topic: str, count: int, pause: float) -> int:
        """Sends numbered records with pauses."""
        producer = Producer({
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        })
        acked = 0

        def note(error, _message) -> None:
            nonlocal acked
            acked += error is None

        for number in range(count):
            producer.produce(topic, common.numbered(number), partition=0, on_delivery=note)
            producer.poll(pause)
        producer.flush(60)
        return acked

    def admin(self, topic: str, group: str | None) -> administration.Steps:
        """Returns the steps of the admin client."""
        return administration.confluent(self, topic, group)


if __name__ == "__main__":
    common.main(Confluent)
