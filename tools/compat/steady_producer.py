"""Sends the lines of standard input to one partition, with librdkafka's idempotent producer.

    steady_producer.py BOOTSTRAP TOPIC PARTITION

It ends with 0 when every line was acknowledged, in order and at rising offsets, and with 1 and one
line on standard error else.
"""

from __future__ import annotations

import sys

from confluent_kafka import KafkaError, Message, Producer


def main() -> int:
    bootstrap, topic, partition = sys.argv[1:]
    problems: list[str] = []
    last = -1

    def delivered(error: KafkaError | None, message: Message) -> None:
        nonlocal last
        offset = message.offset()
        if error is not None:
            problems.append(f"not delivered: {error}")
        elif offset is None or offset <= last:
            problems.append(f"offset {offset} after {last}")
        else:
            last = offset

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": 120_000,
            "socket.timeout.ms": 2_000,
            "log_level": 2,
        }
    )
    for line in sys.stdin.buffer:
        producer.produce(
            topic, line.rstrip(b"\n"), partition=int(partition), on_delivery=delivered
        )
        producer.poll(0)
        if problems:
            break
    left = producer.flush(60)
    if left:
        problems.append(f"{left} without an answer")
    for problem in problems[:1]:
        print(f"steady_producer: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
