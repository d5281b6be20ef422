"""Orders that are written to SQLite together with their messages: each has both, or neither.

The message is sent first, as a half message that nobody sees. Once the database has committed, a command lets it
out. Where the program dies in between, the broker asks in the topic `checks.shop`, and whoever reads that looks into
the database. Any Kafka client can do the same: all of it is headers.

Needs a broker of Mainspring: `mainspring serve --memory`, at MAINSPRING_BOOTSTRAP.
"""

import sqlite3
import tempfile
from pathlib import Path

import mainspring as ms

TOPIC = "paid-orders"
CHECKS = "checks.shop"


def decide(producer: ms.Producer, name: str, partition: int, *, paid: bool) -> None:
    """Lets a half message out, or takes it back. The first verdict is final; the same one again changes nothing."""
    headers = {"mainspring-op": "commit" if paid else "rollback", "mainspring-id": name}
    producer.send(TOPIC, b"", headers=headers, partition=partition).result(timeout=30)


def pay(db: sqlite3.Connection, producer: ms.Producer, number: int, cents: int, *, dies: bool = False) -> None:
    """Writes an order and lets its message out."""
    name = f"order-{number}"
    headers = {"mainspring-half": "shop", "mainspring-id": name}
    half = producer.send(TOPIC, b"order %d is paid" % number, headers=headers).result(timeout=30)
    try:
        with db:
            db.execute("insert into orders values (?, ?)", (number, cents))
    except sqlite3.Error:
        decide(producer, name, half.partition, paid=False)
        raise
    if not dies:
        decide(producer, name, half.partition, paid=True)


def answer(db: sqlite3.Connection, producer: ms.Producer, question: ms.Message) -> None:
    """Says what has become of an order whose verdict has not come."""
    name = (question.key or b"").decode()
    found = db.execute("select 1 from orders where number = ?", (int(name.split("-")[1]),)).fetchone()
    partition = int(question.headers["mainspring-check-partition"] or b"0")
    decide(producer, name, partition, paid=found is not None)


def main() -> None:
    db = sqlite3.connect(Path(tempfile.mkdtemp()) / "shop.db")
    db.execute("create table orders (number integer primary key, cents integer check (cents > 0))")
    with ms.Admin() as admin, ms.Producer() as producer:
        # The first question comes after half a second here, and after ten by default.
        config = {"mainspring.features": "half", "mainspring.half.check.after.ms": 500}
        admin.create_topic(TOPIC, config=config, exist_ok=True)
        admin.create_topic(CHECKS, config={"mainspring.features": "dedup"}, exist_ok=True)

        pay(db, producer, 1, 500)
        try:
            pay(db, producer, 2, -500)
        except sqlite3.IntegrityError:
            pass  # The database refuses it, and its message never comes.
        pay(db, producer, 3, 700, dies=True)

        with ms.Consumer(topics=CHECKS, group="shop", start="earliest") as questions:
            question = questions.poll(timeout=30)
            assert question is not None
            answer(db, producer, question)

    with ms.Consumer(topics=TOPIC, group="post", start="earliest") as consumer:
        for count, message in enumerate(consumer, start=1):
            print((message.value or b"").decode())
            if count == 2:
                break
    numbers = [str(number) for (number,) in db.execute("select number from orders order by number")]
    print("the database has orders", " and ".join(numbers))
    db.close()


if __name__ == "__main__":
    main()
