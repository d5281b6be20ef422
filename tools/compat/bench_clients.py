"""Python clients side by side: messages for each second of the client's own processor time, and for each
second on the clock, against one broker in a process of its own.

Each measurement is a process of its own, so that nothing but the client counts. Rounds alternate; what
is told is the median, with the range, and the ratio to the yardstick of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

WARM = 1000


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Watch:
    """Counts from the end of the preparations on."""

    def start(self) -> None:
        self.cpu, self.wall = used(), time.perf_counter()

    def stop(self, count: int) -> dict[str, float]:
        cpu, wall = used() - self.cpu, time.perf_counter() - self.wall
        return {"per_cpu_second": count / cpu, "per_second": count / wall}


CONFLUENT = {"linger.ms": 5, "batch.size": 1 << 20, "queue.buffering.max.messages": 2_000_000}
OURS = {"linger_ms": 5, "batch_size": 1 << 20, "max_request_size": 2 << 20, "buffer_memory": 256 << 20}


def confluent_produce(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, **CONFLUENT})
    watch = Watch()
    for number in range(WARM + count):
        if number == WARM:
            producer.flush()
            watch.start()
        while True:
            try:
                producer.produce(topic, payload)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()
    return watch.stop(count)


def mainspring_send(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    import mainspring

    with mainspring.Producer(address, **OURS) as producer:
        for _ in range(WARM):
            producer.send(topic, payload)
        producer.flush()
        watch = Watch()
        watch.start()
        for _ in range(count):
            producer.send(topic, payload)
        producer.flush()
        return watch.stop(count)


def mainspring_send_many(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    import mainspring

    with mainspring.Producer(address, **OURS) as producer:
        producer.send_many(topic, [payload] * WARM)
        producer.flush()
        many = [payload] * 10_000
        watch = Watch()
        watch.start()
        for _ in range(count // len(many)):
            producer.send_many(topic, many)
        producer.flush()
        return watch.stop(count // len(many) * len(many))


def kafka_python_produce(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=address, linger_ms=5, batch_size=1 << 20)
    for _ in range(WARM):
        producer.send(topic, payload)
    producer.flush()
    watch = Watch()
    watch.start()
    for _ in range(count):
        producer.send(topic, payload)
    producer.flush()
    measured = watch.stop(count)
    producer.close()
    return measured


def confluent_awaited(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from confluent_kafka.aio import AIOProducer

    async def main() -> dict[str, float]:
        producer = AIOProducer({"bootstrap.servers": address, "enable.idempotence": True, **CONFLUENT})
        watch = Watch()
        for number in range(1 + count // 500):
            if number == 1:
                watch.start()
            futures = [await producer.produce(topic, payload) for _ in range(500)]
            await producer.flush()
            await asyncio.gather(*futures)
        measured = watch.stop(count // 500 * 500)
        await producer.close()
        return measured

    return asyncio.run(main())


def aiokafka_awaited(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from aiokafka import AIOKafkaProducer

    async def main() -> dict[str, float]:
        producer = AIOKafkaProducer(
            bootstrap_servers=address, linger_ms=5, max_batch_size=1 << 20, acks="all"
        )
        await producer.start()
        watch = Watch()
        for number in range(1 + count // 500):
            if number == 1:
                watch.start()
            await asyncio.gather(*[await producer.send(topic, payload) for _ in range(500)])
        measured = watch.stop(count // 500 * 500)
        await producer.stop()
        return measured

    return asyncio.run(main())


def mainspring_awaited(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    import mainspring.aio

    async def main() -> dict[str, float]:
        async with mainspring.aio.Producer(address, **OURS) as producer:
            watch = Watch()
            for number in range(1 + count // 500):
                if number == 1:
                    watch.start()
                for delivery in [producer.send(topic, payload) for _ in range(500)]:
                    await delivery
            return watch.stop(count // 500 * 500)

    return asyncio.run(main())


def confluent_consume(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": uuid.uuid4().hex})
    consumer.assign([TopicPartition(topic, 0, 0)])
    while consumer.poll(1.0) is None:
        pass
    watch = Watch()
    watch.start()
    seen = 1
    while seen < count:
        for message in consumer.consume(1000, 1.0):
            message.value()
            seen += 1
    measured = watch.stop(count)
    consumer.close()
    return measured


def mainspring_iterate(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    import mainspring

    with mainspring.Consumer(address, topics=topic, start="earliest") as consumer:
        next(consumer)
        watch = Watch()
        watch.start()
        seen = 1
        for message in consumer:
            _ = message.value
            seen += 1
            if seen == count:
                break
        return watch.stop(count)


def mainspring_batches(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    import mainspring

    with mainspring.Consumer(address, topics=topic, start="earliest") as consumer:
        next(consumer)
        watch = Watch()
        watch.start()
        seen = 1
        for batch in consumer.batches(max_records=5000):
            seen += len(batch.values())
            if seen >= count:
                break
        return watch.stop(count)


def kafka_python_consume(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    next(consumer)
    watch = Watch()
    watch.start()
    seen = 1
    for message in consumer:
        _ = message.value
        seen += 1
        if seen == count:
            break
    measured = watch.stop(count)
    consumer.close()
    return measured


def aiokafka_consume(address: str, topic: str, payload: bytes, count: int) -> dict[str, float]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def main() -> dict[str, float]:
        consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        await consumer.getone()
        watch = Watch()
        watch.start()
        seen = 1
        while seen < count:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
                seen += len([message.value for message in messages])
        measured = watch.stop(count)
        await consumer.stop()
        return measured

    return asyncio.run(main())


Measure = Callable[[str, str, bytes, int], dict[str, float]]

# For each part the yardstick first; a slow client gets a smaller share of the messages.
PARTS: dict[str, list[tuple[Measure, int]]] = {
    "produce": [
        (confluent_produce, 1),
        (mainspring_send, 1),
        (mainspring_send_many, 1),
        (kafka_python_produce, 10),
    ],
    "awaited": [(confluent_awaited, 5), (mainspring_awaited, 5), (aiokafka_awaited, 10)],
    "consume": [
        (confluent_consume, 1),
        (mainspring_iterate, 1),
        (mainspring_batches, 1),
        (kafka_python_consume, 10),
        (aiokafka_consume, 10),
    ],
}
ALL = {measure.__name__: measure for part in PARTS.values() for measure, _ in part}


def measure(name: str, address: str, topic: str, size: int, count: int) -> dict[str, float]:
    arguments = ["--one", name, address, topic, str(size), str(count)]
    ended = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{name} failed: {ended.stderr}")
    measured: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1_000_000, help="messages of 100 B each time")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.one:
        name, address, topic, size, count = chosen.one
        print(json.dumps(ALL[name](address, topic, bytes(int(size)), int(count))))
        return
    import mainspring

    for size in (100, 1024):
        # A broker in memory keeps 256 MiB at most by default.
        count = chosen.count if size == 100 else chosen.count // 8
        results: dict[str, list[tuple[dict[str, float], float]]] = {}
        for _ in range(chosen.rounds):
            with mainspring.Broker.spawn() as broker:
                full = f"full-{size}"
                with mainspring.Producer(broker.bootstrap, **OURS) as producer:
                    for _ in range(count // 10_000 + 1):
                        producer.send_many(full, [bytes(size)] * 10_000)
                for part, rows in PARTS.items():
                    yardstick = None
                    for run, share in rows:
                        name = run.__name__
                        topic = full if part == "consume" else f"{name}-{size}"
                        result = measure(name, broker.bootstrap, topic, size, count // share)
                        yardstick = yardstick or result["per_cpu_second"]
                        ratio = result["per_cpu_second"] / yardstick
                        results.setdefault(name, []).append((result, ratio))
        print(f"\n{size} B                    messages/CPU-second   ratio (range)         messages/second")
        for name, measured in results.items():
            cpu = statistics.median(result["per_cpu_second"] for result, _ in measured)
            wall = statistics.median(result["per_second"] for result, _ in measured)
            ratios = sorted(ratio for _, ratio in measured)
            middle = statistics.median(ratios)
            spread = f"{middle:6.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            print(f"{name:24}{cpu:17,.0f}   {spread:20}{wall:17,.0f}", flush=True)


if __name__ == "__main__":
    main()
