"""Orders that are written to SQLite together with their messages: each has both, or neither.

The message is sent first, as a half message that nobody sees. The end of the block lets it out, once the database has
committed. Where the program dies in between, the broker asks whoever has the same producer group, and a look into the
database decides.

Needs a broker of Mainspring: `mainspring serve --memory`, at MAINSPRING_BOOTSTRAP.
"""

import sqlite3
import tempfile
from pathlib import Path

import mainspring as ms

TOPIC = "paid-orders"
GROUP = "shop"


def pay(path: Path, producer: ms.Producer, number: int, cents: int, *, dies: bool = False) -> None:
    """Writes an order and lets its message out."""
    with producer.half(TOPIC, b"order %d is paid" % number, headers={"order": b"%d" % number}) as half:
        with sqlite3.connect(path) as db:
            db.execute("insert into orders values (?, ?)", (number, cents))
        db.close()
        if dies:
            # The end of the block is not reached, for whatever reason.
            half.unknown()


def main() -> None:
    path = Path(tempfile.mkdtemp()) / "shop.db"
    with sqlite3.connect(path) as db:
        db.execute("create table orders (number integer primary key, cents integer check (cents > 0))")

    def check(half: ms.HalfMessage) -> ms.TxStatus:
        """Says what has become of an order whose verdict has not come. It runs in a thread of its own."""
        looks = sqlite3.connect(path)
        number = int(half.headers["order"] or b"0")
        found = looks.execute("select 1 from orders where number = ?", (number,)).fetchone()
        looks.close()
        return ms.COMMIT if found else ms.ROLLBACK

    with ms.Admin() as admin:
        # The first question comes after half a second here, and after ten by default.
        admin.create_topic(
            TOPIC,
            config={"mainspring.features": "half", "mainspring.half.check.after.ms": 500},
            exist_ok=True,
        )

    with ms.Producer(producer_group=GROUP, checker=check) as producer:
        pay(path, producer, 1, 500)
        try:
            pay(path, producer, 2, -500)
        except sqlite3.IntegrityError:
            pass  # The database refuses it, and its message never comes.
        pay(path, producer, 3, 700, dies=True)

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
