"""Reads one topic and writes another so that each input has its effect exactly once.

Records of the output and the offsets of the input are of one transaction: both count, or neither. So a
worker may be killed at any moment and started again. What it had not committed is aborted, and is read
again.

Needs a broker: `mainspring serve --memory`, or any other Kafka broker at MAINSPRING_BOOTSTRAP. It ends by
itself once all payments have their receipts, so that it can be tried; a worker of your own runs until
SIGTERM.
"""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import mainspring as ms
from mainspring.serde import Json, Utf8

COUNT = 1000


@dataclass(frozen=True)
class Payment:
    number: int
    cents: int


@dataclass(frozen=True)
class Receipt:
    number: int
    text: str


payments = ms.Topic("payments", key=Utf8(), value=Json(Payment))
receipts = ms.Topic("receipts", key=Utf8(), value=Json(Receipt))


def receipt_of(payment: Payment) -> Receipt:
    """What a payment becomes. It must have no effect beyond what it returns: it may be called again."""
    euros, cents = divmod(payment.cents, 100)
    return Receipt(payment.number, f"received with thanks: {euros}.{cents:02}")


def work(
    name: str, most: int = 100, begun: Callable[[ms.Consumer[str, Payment]], None] | None = None
) -> None:
    """Turns payments into receipts until the consumer is stopped.

    Several workers share the payments. Each has a name of its own, which it keeps over restarts: by it
    the next one that has the name aborts what was left open, and has the same partitions at once.
    """
    with (
        ms.Producer(transactional_id=f"receipts-{name}") as producer,
        ms.Consumer(
            topics=payments,
            group="receipts",
            group_instance_id=name,
            start="earliest",
            auto_commit=False,  # The transactions store the offsets.
            isolation="read_committed",
        ) as consumer,
    ):
        if begun is not None:
            begun(consumer)
        for batch in consumer.batches(max_records=most, max_wait=0.1):
            try:
                with producer.transaction() as tx:
                    for message in batch:
                        tx.send(receipts, receipt_of(message.value), key=message.key)
                    tx.commit_offsets(consumer, batch)
            except (ms.TransactionAborted, ms.RebalanceInProgress):
                # Nothing of it counts. What it had read is read again, by whoever has the partitions
                # now. `ProducerFenced` is no such case: another worker has this one's name.
                consumer.rewind()


def stop_at_sigterm(consumer: ms.Consumer[str, Payment]) -> None:
    """Lets SIGTERM end the worker once its transaction is committed."""
    signal.signal(signal.SIGTERM, lambda *_: consumer.stop())


def main() -> None:
    with ms.Admin() as admin:
        admin.create_topic(payments, partitions=4, exist_ok=True)
        admin.create_topic(receipts, partitions=2, exist_ok=True)
    with ms.Producer() as producer:
        for number in range(COUNT):
            producer.send(payments, Payment(number, 100 + number), key=f"customer-{number % 7}")

    workers: list[ms.Consumer[str, Payment]] = []
    threads = [
        threading.Thread(target=work, args=(name,), kwargs={"begun": workers.append})
        for name in ("left", "right")
    ]
    for thread in threads:
        thread.start()

    # Readers of the output ask for committed records, too.
    found: list[int] = []
    with ms.Consumer(topics=receipts, start="earliest", isolation="read_committed") as consumer:
        for message in consumer:
            found.append(message.value.number)
            if len(found) == COUNT:
                break
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()
    print(f"{len(set(found))} payments have {len(found)} receipts")


if __name__ == "__main__":
    main()
