"""Workers of a pipeline: each takes records as a member of a group, writes them on, and commits both at once.

A worker tells what it does by lines on standard output, which whoever looks for a stall reads, and goes on
until it is killed. `stage_only` makes it stop where its second transaction is about to be committed.
A call that hangs ends a worker in Python, with the place where it hung; SIGUSR1 makes it tell where it is.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import time
from typing import Any

# Records of a transaction at most.
BATCH = 50
# The timeout of its transactions, and how long it waits for one step.
TIMEOUT_MS = 10_000
PATIENCE = 20
SESSION_MS = 6_000
# A member that takes nothing for so long leaves its group; its round does not wait for it any longer.
POLL_MS = 20_000
# Longest time for all calls of one transaction. librdkafka 2.16 never returns from sending offsets, whatever the
# timeout, where the group's coordinator goes away and then the node that it asks for the new one
# (confluentinc/librdkafka#5511, #5456).
HANGS = 45


def tell(event: str, **more: Any) -> None:
    """Prints what happens."""
    print(json.dumps({"at": round(time.time(), 2), "event": event, **more}), flush=True)


def confluent(bootstrap: str, job: dict[str, Any]) -> None:
    """Works with confluent-kafka, until it is killed."""
    faulthandler.register(signal.SIGUSR1)
    from confluent_kafka import KafkaException

    while True:
        try:
            _confluent(bootstrap, job)
        except KafkaException as error:
            cause = error.args[0]
            tell("failed", why=cause.str(), fatal=cause.fatal(), abort=cause.txn_requires_abort())


def _confluent(bootstrap: str, job: dict[str, Any]) -> None:
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

    producer = Producer({
        "bootstrap.servers": bootstrap,
        "transactional.id": job["id"],
        "transaction.timeout.ms": job.get("timeout_ms", TIMEOUT_MS),
        "reconnect.backoff.max.ms": 500,
        "log_level": 0,
    })
    tell("init")
    faulthandler.dump_traceback_later(HANGS, exit=True)
    producer.init_transactions(PATIENCE)
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": job["group"],
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "session.timeout.ms": SESSION_MS,
        "max.poll.interval.ms": POLL_MS,
        "reconnect.backoff.max.ms": 500,
        "log_level": 0,
    })

    def gained(_consumer: Consumer, places: list[TopicPartition]) -> None:
        tell("assigned", partitions=[one.partition for one in places])

    def lost(_consumer: Consumer, places: list[TopicPartition]) -> None:
        tell("revoked", partitions=[one.partition for one in places])

    consumer.subscribe([job["source"]], on_assign=gained, on_revoke=lost, on_lost=lost)
    done = 0
    try:
        while True:
            faulthandler.dump_traceback_later(HANGS, exit=True)
            messages = [m for m in consumer.consume(job.get("batch", BATCH), 0.5) if not m.error()]
            if not messages:
                continue
            positions = {m.partition(): m.offset() + 1 for m in messages}
            tell("begin", positions=positions)
            producer.begin_transaction()
            for message in messages:
                producer.produce(
                    job["target"], message.value(), message.key(), partition=message.partition()
                )
            offsets = [TopicPartition(job["source"], *place) for place in positions.items()]
            member = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction(offsets, member, PATIENCE)
            if job.get("stage_only") and done:
                producer.flush(PATIENCE)
                tell("staged")
                time.sleep(600)
            producer.commit_transaction(PATIENCE)
            done += 1
            tell("committed", count=len(messages))
    except KafkaException as error:
        if error.args[0].txn_requires_abort():
            producer.abort_transaction(PATIENCE)
        raise
    finally:
        consumer.close()


def ours(bootstrap: str, job: dict[str, Any]) -> None:
    """Works with the Python package of Mainspring, until it is killed."""
    faulthandler.register(signal.SIGUSR1)
    import mainspring

    while True:
        try:
            _ours(bootstrap, job)
        except mainspring.MainspringError as error:
            tell("failed", why=f"{type(error).__name__}: {error}")


def _ours(bootstrap: str, job: dict[str, Any]) -> None:
    import mainspring

    def told(event: str) -> Any:
        return lambda places: tell(event, partitions=[partition for _, partition in places])

    tell("init")
    with (
        mainspring.Producer(
            bootstrap,
            transactional_id=job["id"],
            transaction_timeout_ms=job.get("timeout_ms", TIMEOUT_MS),
            max_block_ms=PATIENCE * 1000,
        ) as producer,
        mainspring.Consumer(
            bootstrap,
            topics=job["source"],
            group=job["group"],
            start="earliest",
            isolation="read_committed",
            session_timeout_ms=SESSION_MS,
            on_assigned=told("assigned"),
            on_revoked=told("revoked"),
            on_lost=told("revoked"),
        ) as consumer,
    ):
        for batch in consumer.batches(job.get("batch", BATCH)):
            tell("begin", positions={m.partition: m.offset + 1 for m in batch})
            try:
                with producer.transaction() as transaction:
                    for message in batch:
                        transaction.send(
                            job["target"], message.value, message.key, partition=message.partition
                        )
                    transaction.commit_offsets(consumer, batch)
            except (mainspring.RebalanceInProgress, mainspring.TransactionAborted) as error:
                tell("aborted", why=f"{type(error).__name__}: {error}")
                consumer.rewind()
            else:
                tell("committed", count=len(batch))


def main() -> None:
    """Runs our own client, which no other program has."""
    import argparse
    import sys

    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--role", required=True)
    ours(parser.parse_args().bootstrap, json.loads(sys.stdin.readline()))


if __name__ == "__main__":
    main()
