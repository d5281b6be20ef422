"""Reads messages in batches into Arrow tables, and stores offsets once a batch is written.

Needs `pip install pyarrow`, and a broker: `mainspring serve --memory`, or any other Kafka broker at
MAINSPRING_BOOTSTRAP.
"""

import json
import tempfile
from pathlib import Path

import mainspring as ms
import pyarrow as pa
import pyarrow.parquet as pq

COUNT = 20_000


def publish() -> None:
    with ms.Producer(compression="lz4") as producer:
        values = (b'{"id":%d,"celsius":%d}' % (n, n % 40) for n in range(COUNT))
        producer.send_many("metrics", values)


def table_of(batch: ms.MessageBatch[bytes, bytes]) -> pa.Table:
    """Makes a table of a batch: its values, keys and times cross into Python once, as lists."""
    rows = [json.loads(value) for value in batch.values()]
    table = pa.Table.from_pylist(rows)
    return table.append_column("timestamp", pa.array(batch.timestamps(), pa.timestamp("ms")))


def main() -> None:
    publish()
    folder = Path(tempfile.mkdtemp())
    written = 0
    with ms.Consumer(
        topics="metrics", group="lake", start="earliest", auto_commit=False
    ) as consumer:
        for batch in consumer.batches(max_records=5000, max_wait=0.5):
            pq.write_table(table_of(batch), folder / f"{written}.parquet")
            consumer.commit(batch)
            written += len(batch)
            if written >= COUNT:
                break
    total = pq.read_table(folder)
    print(f"{total.num_rows} rows of {total.num_columns} columns in {folder}")


if __name__ == "__main__":
    main()
