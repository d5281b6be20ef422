"""A worker that reads, transforms and writes is killed at any moment, and its broker too: each input has its
effect exactly once all the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import mainspring as ms
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"

# Inputs come in parts of this size, one after each death of a worker: so the next one has work, and all is done
# only once it has done some.
PART = 600
COUNT = 5 * PART
# How many effects there are when something is killed.
WORKER_DIES_AT = (300, 900, 1500, 2100)
BROKER_DIES_AT = 2700

# The program that people copy.
SYNC = """
from exactly_once import stop_at_sigterm, work
work("worker", 50, stop_at_sigterm)
"""

AIO = """
import asyncio, signal
import mainspring as ms, mainspring.aio as msa
from exactly_once import payments, receipt_of, receipts

async def main():
    async with (
        msa.Producer(transactional_id="receipts-worker") as producer,
        msa.Consumer(
            topics=payments, group="receipts", group_instance_id="worker", start="earliest",
            auto_commit=False, isolation="read_committed",
        ) as consumer,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        async for batch in consumer.batches(max_records=50, max_wait=0.1):
            try:
                async with producer.transaction() as tx:
                    for message in batch:
                        tx.send(receipts, receipt_of(message.value), key=message.key)
                    await tx.commit_offsets(consumer, batch)
            except (ms.TransactionAborted, ms.RebalanceInProgress):
                await consumer.rewind()

asyncio.run(main())
"""


@pytest.mark.parametrize("program", [SYNC, AIO], ids=["sync", "aio"])
def test_each_input_has_its_effect_once_through_kills_of_worker_and_broker(
    tmp_path, monkeypatch, program
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def start_broker() -> ms.SpawnedBroker:
        return ms.Broker.spawn(tmp_path / "data", port=port)

    def start_worker() -> subprocess.Popen[str]:
        return subprocess.Popen(
            # Without the debugging of event loops, which tells of each pause of a busy machine.
            [sys.executable, "-W", "error", "-c", program],
            text=True,
            stderr=subprocess.PIPE,
        )

    broker = start_broker()
    monkeypatch.setenv("MAINSPRING_BOOTSTRAP", broker.bootstrap)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), *sys.path]))
    with ms.Admin() as admin:
        admin.create_topic("payments", partitions=4)
        admin.create_topic("receipts", partitions=2)
    numbers = iter(range(COUNT))

    def pay() -> None:
        with ms.Producer() as producer:
            for number in islice(numbers, PART):
                value = b'{"number":%d,"cents":%d}' % (number, number)
                producer.send("payments", value, key=b"%d" % (number % 7))

    pay()
    worker = start_worker()
    seen: list[bytes] = []
    killed = 0
    try:
        for seen_so_far, value in enumerate(receipts(COUNT), 1):
            seen.append(value)
            if seen_so_far in WORKER_DIES_AT:
                worker.kill()
                said = worker.communicate(timeout=20)[1]
                assert worker.returncode == -signal.SIGKILL, said
                killed += 1
                worker = start_worker()
                pay()
            if seen_so_far == BROKER_DIES_AT:
                broker.kill()
                broker = start_broker()
        worker.terminate()
        said = worker.communicate(timeout=40)[1]
        # It may say that the broker was away.
        assert worker.returncode == 0, said
        assert "Traceback" not in said
        # Behind what was seen nothing else has come, and every offset counts.
        assert killed == len(WORKER_DIES_AT)
        assert sorted(seen) == sorted(receipts(None))
        with ms.Admin() as admin:
            assert admin.group("receipts").total_lag == 0
    finally:
        worker.kill()
        worker.communicate()
        broker.stop()
    paid = [int(value.split(b'"number":')[1].split(b",")[0]) for value in seen]
    assert sorted(paid) == list(range(COUNT))


def receipts(count: int | None) -> Iterator[bytes]:
    """Reads what is committed of the output: so many, or all that there are."""
    if count is None:
        with ms.Producer() as producer:
            for partition in range(2):
                producer.send("receipts", b"end", partition=partition).result(40)
    ends = 0
    taken = 0
    with ms.Consumer(topics="receipts", start="earliest", isolation="read_committed") as consumer:
        while ends < 2 and taken != count:
            message = consumer.poll(40)
            assert message is not None, f"{taken} effects came, and then none for 40 s"
            if message.value == b"end":
                ends += 1
                continue
            taken += 1
            yield message.value
