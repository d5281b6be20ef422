"""kafka-python, the pure Python client."""

from __future__ import annotations

import time

from kafka import (
    ConsumerRebalanceListener,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.coordinator.assignors.range import RangePartitionAssignor

import administration
import common
from common import Record
from members import Member
from transacting import PATIENCE, Transactor


class KafkaPythonMember(Member, ConsumerRebalanceListener):
    """A member of a group."""

    def open(self) -> None:
        """Subscribes."""
        self.consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.job["group"],
            group_instance_id=self.instance(),
            partition_assignment_strategy=[RangePartitionAssignor],
            session_timeout_ms=self.job["session_ms"],
            heartbeat_interval_ms=self.job["heartbeat_ms"],
            max_poll_interval_ms=30_000,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            reconnect_backoff_max_ms=500,
        )
        self.consumer.subscribe([self.job["topic"]], listener=self)

    def on_partitions_assigned(self, assigned) -> None:
        """Takes partitions."""
        self.gained([one.partition for one in assigned])

    def on_partitions_revoked(self, revoked) -> None:
        """Gives partitions back."""
        self.lost([one.partition for one in revoked])

    def poll(self) -> None:
        """Takes what is there.

        A round that ends after `poll` gave up waiting for it is forgotten by the library, and with it the
        assignment; so the wait is a long one.
        """
        for batch in self.consumer.poll(timeout_ms=1000).values():
            for message in batch:
                self.read(message.partition, message.offset, message.value)

    def commit(self, offsets: dict[int, int]) -> None:
        """Commits and waits."""
        topic = self.job["topic"]
        self.consumer.commit({
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        })

    def close(self) -> None:
        """Leaves."""
        self.consumer.close(autocommit=False)


class KafkaPythonTransactor(Transactor):
    """Producers in transactions."""

    def open(self, producer: int, id: str, timeout_ms: int) -> None:
        """Makes a producer."""
        made = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id=id,
            transaction_timeout_ms=timeout_ms,
            max_block_ms=PATIENCE * 1000,
        )
        made.init_transactions()
        self.producers[producer] = made

    def begin(self, producer: int) -> None:
        """Begins."""
        self.producers[producer].begin_transaction()

    def commit(self, producer: int) -> None:
        """Commits."""
        self.producers[producer].commit_transaction()

    def abort(self, producer: int) -> None:
        """Aborts."""
        self.producers[producer].abort_transaction()

    def close(self, producer: int) -> None:
        """Closes it."""
        self.producers.pop(producer).close(1)

    def send(self, producer: int, topic: str, values: list[str]) -> None:
        """Sends and waits."""
        sender = self.producers[producer]
        for at, value in enumerate(values):
            sender.send(topic, value.encode(), partition=at % 2)
        sender.flush(PATIENCE)

    def take(self, producer: int, id: str, topic: str, group: str, count: int) -> int:
        """Reads as a member of a group."""
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        return len(self._poll(self.consumer, count, 1000))

    def offsets(self, producer: int) -> None:
        """Puts the positions into the transaction."""
        positions = {
            partition: OffsetAndMetadata(self.consumer.position(partition), "", -1)
            for partition in self.consumer.assignment()
        }
        member = self.consumer.group_metadata()
        try:
            self.producers[producer].send_offsets_to_transaction(positions, member)
        finally:
            self.consumer.close(autocommit=False)

    def read(self, topic: str, isolation: str, count: int) -> list[str]:
        """Reads by assignment."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,
            isolation_level=isolation,
            enable_auto_commit=False,
        )
        assigned = [TopicPartition(topic, partition) for partition in range(2)]
        consumer.assign(assigned)
        consumer.seek_to_beginning(*assigned)
        values = self._poll(consumer, count, 200)
        consumer.close()
        return values

    def _poll(self, consumer: KafkaConsumer, count: int, wait_ms: int) -> list[str]:
        values: list[str] = []
        end = time.monotonic() + PATIENCE
        while len(values) < count and time.monotonic() < end:
            for batch in consumer.poll(timeout_ms=wait_ms).values():
                values.extend(message.value.decode() for message in batch)
        return values


class KafkaPython:
    """The client kafka-python."""

    name = "kafka-python"
    member = KafkaPythonMember
    transactor = KafkaPythonTransactor

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def variants(self) -> list[tuple[str, str]]:
        """Has all."""
        return common.all_variants()

    def plan(self, seed: int, now: int) -> list[Record]:
        """Sends every shape but a record whose key and value are both null, which it refuses."""
        records = common.full_plan(seed, now)
        return [record for record in records if not record.key is record.value is None]

    def _producer(self, codec: str, acks: str) -> KafkaProducer:
        return KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            acks={"0": 0, "1": 1}.get(acks, "all"),
            enable_idempotence=acks == "idempotent",
            linger_ms=5,
            max_block_ms=20_000,
            reconnect_backoff_max_ms=500,
        )

    def write(self, topic: str, records: list[Record], codec: str, acks: str) -> list[int | None]:
        """Sends records and returns their offsets."""
        producer = self._producer(codec, acks)
        sent = [
            producer.send(
                topic,
                value=record.value,
                key=record.key,
                headers=record.headers,
                partition=record.partition,
                timestamp_ms=record.timestamp,
            )
            for record in records
        ]
        producer.flush(20)
        offsets = [future.get(20).offset if acks != "0" else None for future in sent]
        producer.close(20)
        return offsets

    def _consumer(self) -> KafkaConsumer:
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            reconnect_backoff_max_ms=500,
        )

    def read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        """Reads from the beginning by assignment."""
        consumer = self._consumer()
        assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        consumer.seek_to_beginning(*assigned)
        records = self._poll(consumer, count, timeout)
        consumer.close()
        return records

    def _poll(self, consumer: KafkaConsumer, count: int, timeout: float) -> list[Record]:
        records = []
        end = time.monotonic() + timeout
        while len(records) < count and time.monotonic() < end:
            for batch in consumer.poll(timeout_ms=200).values():
                records.extend(
                    Record(
                        message.partition,
                        message.key,
                        message.value,
                        list(message.headers),
                        message.timestamp,
                        message.offset,
                    )
                    for message in batch
                )
        return records

    def lookup(self, topic: str, partition: int, timestamp: int) -> tuple[int, Record | None]:
        """Asks for an offset by time and reads there."""
        consumer = self._consumer()
        where = TopicPartition(topic, partition)
        found = consumer.offsets_for_times({where: timestamp})[where]
        record = None
        if found is not None:
            consumer.assign([where])
            consumer.seek(where, found.offset)
            record = next(iter(self._poll(consumer, 1, 10)), None)
        consumer.close()
        return (-1 if found is None else found.offset), record

    def hold(self, topic: str, count: int, pause: float) -> int:
        """Sends numbered records with pauses."""
        producer = self._producer("none", "idempotent")
        sent = []
        for number in range(count):
            sent.append(producer.send(topic, common.numbered(number), partition=0))
            time.sleep(pause)
        producer.flush(60)
        acked = sum(future.succeeded() for future in sent)
        producer.close(20)
        return acked

    def admin(self, topic: str, group: str | None) -> administration.Steps:
        """Returns the steps of the admin client."""
        return administration.kafka_python(self, topic, group)


if __name__ == "__main__":
    common.main(KafkaPython)
