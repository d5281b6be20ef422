"""aiokafka, the asyncio client, which speaks the old end of every version range."""

from __future__ import annotations

import asyncio
import time

from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

import administration
import common
from common import Record
from members import Member
from transacting import PATIENCE, Transactor


class AiokafkaMember(Member, ConsumerRebalanceListener):
    """A member of a group, with an event loop of its own."""

    def open(self) -> None:
        """Subscribes."""
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.job["group"],
            group_instance_id=self.instance(),
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self.job["session_ms"],
            rebalance_timeout_ms=self.job["session_ms"],
            heartbeat_interval_ms=self.job["heartbeat_ms"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self.consumer.subscribe([self.job["topic"]], listener=self)
        await self.consumer.start()

    def on_partitions_assigned(self, assigned) -> None:
        """Takes partitions."""
        self.gained([one.partition for one in assigned])

    def on_partitions_revoked(self, revoked) -> None:
        """Gives partitions back."""
        self.lost([one.partition for one in revoked])

    def poll(self) -> None:
        """Takes what is there."""
        found = self.loop.run_until_complete(self.consumer.getmany(timeout_ms=50))
        for batch in found.values():
            for message in batch:
                self.read(message.partition, message.offset, message.value)

    def commit(self, offsets: dict[int, int]) -> None:
        """Commits and waits."""
        topic = self.job["topic"]
        wanted = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        self.loop.run_until_complete(self.consumer.commit(wanted))

    def close(self) -> None:
        """Leaves."""
        self.loop.run_until_complete(self.consumer.stop())


class AiokafkaTransactor(Transactor):
    """Producers in transactions, with an event loop of their own."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self.loop = asyncio.new_event_loop()
        self.group = ""

    def _do(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def open(self, producer: int, id: str, timeout_ms: int) -> None:
        """Makes a producer."""
        self._do(self._open(producer, id, timeout_ms))

    async def _open(self, producer: int, id: str, timeout_ms: int) -> None:
        made = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id=id,
            transaction_timeout_ms=timeout_ms,
        )
        self.producers[producer] = made
        await made.start()

    def begin(self, producer: int) -> None:
        """Begins."""
        self._do(self.producers[producer].begin_transaction())

    def commit(self, producer: int) -> None:
        """Commits."""
        self._do(self.producers[producer].commit_transaction())

    def abort(self, producer: int) -> None:
        """Aborts."""
        self._do(self.producers[producer].abort_transaction())

    def close(self, producer: int) -> None:
        """Closes it."""
        self._do(self.producers.pop(producer).stop())

    def send(self, producer: int, topic: str, values: list[str]) -> None:
        """Sends and waits."""
        self._do(self._send(self.producers[producer], topic, values))

    async def _send(self, sender: AIOKafkaProducer, topic: str, values: list[str]) -> None:
        sent = [
            await sender.send(topic, value.encode(), partition=at % 2)
            for at, value in enumerate(values)
        ]
        await asyncio.wait(sent)

    def take(self, producer: int, id: str, topic: str, group: str, count: int) -> int:
        """Reads as a member of a group."""
        self.group = group
        return self._do(self._take(topic, group, count))

    async def _take(self, topic: str, group: str, count: int) -> int:
        self.consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await self.consumer.start()
        return len(await self._poll(self.consumer, count))

    def offsets(self, producer: int) -> None:
        """Puts the positions into the transaction."""
        self._do(self._offsets(self.producers[producer]))

    async def _offsets(self, sender: AIOKafkaProducer) -> None:
        positions = {
            partition: await self.consumer.position(partition)
            for partition in self.consumer.assignment()
        }
        try:
            await sender.send_offsets_to_transaction(positions, self.group)
        finally:
            await self.consumer.stop()

    def read(self, topic: str, isolation: str, count: int) -> list[str]:
        """Reads by assignment."""
        return self._do(self._read(topic, isolation, count))

    async def _read(self, topic: str, isolation: str, count: int) -> list[str]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,
            isolation_level=isolation,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            assigned = [TopicPartition(topic, partition) for partition in range(2)]
            consumer.assign(assigned)
            await consumer.seek_to_beginning(*assigned)
            return await self._poll(consumer, count)
        finally:
            await consumer.stop()

    async def _poll(self, consumer: AIOKafkaConsumer, count: int) -> list[str]:
        values: list[str] = []
        end = time.monotonic() + PATIENCE / 2
        while len(values) < count and time.monotonic() < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                values.extend(message.value.decode() for message in batch)
        return values


class Aiokafka:
    """The client aiokafka."""

    name = "aiokafka"
    member = AiokafkaMember
    transactor = AiokafkaTransactor

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def variants(self) -> list[tuple[str, str]]:
        """Has all."""
        return common.all_variants()

    def plan(self, seed: int, now: int) -> list[Record]:
        """Sends every shape but a record whose key and value are both null, which it refuses."""
        records = common.full_plan(seed, now)
        return [record for record in records if not record.key is record.value is None]

    def _producer(self, codec: str, acks: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            acks={"0": 0, "1": 1}.get(acks, "all"),
            enable_idempotence=acks == "idempotent",
            linger_ms=5,
        )

    def write(self, topic: str, records: list[Record], codec: str, acks: str) -> list[int | None]:
        """Sends records and returns their offsets."""
        return asyncio.run(self._write(topic, records, codec, acks))

    async def _write(
        self, topic: str, records: list[Record], codec: str, acks: str
    ) -> list[int | None]:
        producer = self._producer(codec, acks)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    record.timestamp,
                    record.headers,
                )
                for record in records
            ]
            await asyncio.wait_for(producer.flush(), 20)
            return [(await future).offset if acks != "0" else None for future in sent]
        finally:
            await producer.stop()

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    def read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        """Reads from the beginning by assignment."""
        return asyncio.run(self._read(topic, partitions, count, timeout))

    async def _read(self, topic: str, partitions: int, count: int, timeout: float) -> list[Record]:
        consumer = self._consumer()
        await consumer.start()
        try:
            assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
            consumer.assign(assigned)
            await consumer.seek_to_beginning(*assigned)
            return await self._poll(consumer, count, timeout)
        finally:
            await consumer.stop()

    async def _poll(self, consumer: AIOKafkaConsumer, count: int, timeout: float) -> list[Record]:
        records = []
        end = time.monotonic() + timeout
        while len(records) < count and time.monotonic() < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
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
        return asyncio.run(self._lookup(topic, partition, timestamp))

    async def _lookup(
        self, topic: str, partition: int, timestamp: int
    ) -> tuple[int, Record | None]:
        consumer = self._consumer()
        await consumer.start()
        try:
            where = TopicPartition(topic, partition)
            found = (await consumer.offsets_for_times({where: timestamp}))[where]
            if found is None:
                return -1, None
            consumer.assign([where])
            consumer.seek(where, found.offset)
            return found.offset, next(iter(await self._poll(consumer, 1, 10)), None)
        finally:
            await consumer.stop()

    def hold(self, topic: str, count: int, pause: float) -> int:
        """Sends numbered records with pauses."""
        return asyncio.run(self._hold(topic, count, pause))

    async def _hold(self, topic: str, count: int, pause: float) -> int:
        producer = self._producer("none", "idempotent")
        await producer.start()
        try:
            sent = []
            for number in range(count):
                sent.append(await producer.send(topic, common.numbered(number), partition=0))
                await asyncio.sleep(pause)
            await asyncio.wait_for(producer.flush(), 60)
            results = await asyncio.gather(*sent, return_exceptions=True)
            return sum(not isinstance(result, BaseException) for result in results)
        finally:
            await producer.stop()

    def admin(self, topic: str, group: str | None) -> administration.Steps:
        """Returns the steps of the admin client."""
        return administration.aiokafka(self, topic, group)


if __name__ == "__main__":
    common.main(Aiokafka)
