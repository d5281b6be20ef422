"""An order pipeline: typed topics, a group of two members, offsets that are stored by hand.

Needs a broker: `mainspring serve --memory`, or any other Kafka broker at MAINSPRING_BOOTSTRAP.
"""

import threading
from collections import Counter
from dataclasses import dataclass

import mainspring as ms
from mainspring.serde import Json, Utf8

COUNT = 100


@dataclass(frozen=True)
class Order:
    customer: str
    cents: int


@dataclass(frozen=True)
class Invoice:
    customer: str
    total: int


orders = ms.Topic("orders", key=Utf8(), value=Json(Order))
invoices = ms.Topic("invoices", key=Utf8(), value=Json(Invoice))


def take_orders() -> None:
    """Sends orders; those of one customer go to one partition, in their order."""
    with ms.Producer(acks="all", compression="zstd") as producer:
        for number in range(COUNT):
            customer = f"customer-{number % 7}"
            producer.send(orders, Order(customer, 100 + number), key=customer)
        # Leaving the block waits until all of them are stored.


def bill(done: Counter[str], enough: threading.Event) -> None:
    """Reads orders as a member of the group, and stores an offset once its invoice is stored."""
    with (
        ms.Consumer(topics=orders, group="billing", start="earliest", auto_commit=False) as consumer,
        ms.Producer(linger_ms=0) as producer,
    ):
        while not enough.is_set():
            message = consumer.poll(timeout=0.1)
            if message is None:
                continue
            order = message.value
            invoice = Invoice(order.customer, order.cents)
            producer.send(invoices, invoice, key=order.customer).result(timeout=30)
            consumer.commit(message)
            done[order.customer] += 1
            if done.total() >= COUNT:
                enough.set()


def main() -> None:
    with ms.Admin() as admin:
        admin.create_topic(orders, partitions=4, exist_ok=True)
        admin.create_topic(invoices, exist_ok=True)
        take_orders()

        done: Counter[str] = Counter()
        enough = threading.Event()
        members = [threading.Thread(target=bill, args=(done, enough)) for _ in range(2)]
        for member in members:
            member.start()
        for member in members:
            member.join()

        print(f"{done.total()} orders of {len(done)} customers are billed")
        print(f"{admin.group('billing').total_lag} orders are left")


if __name__ == "__main__":
    main()
