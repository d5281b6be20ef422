"""The broker of event loops, and that event loops have all that threads have."""

from __future__ import annotations

import asyncio
import threading

import mainspring as ms
import mainspring.aio as msa
import pytest


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    "name", ["Admin", "Broker", "Consumer", "Producer", "SpawnedBroker", "Transaction"]
)
def test_event_loops_have_all_that_threads_have(name):
    sync = getattr(ms, name)
    assert public(sync) - public(getattr(msa, name)) == set()


def test_a_broker_serves_within_its_block_and_not_outside():
    async def main() -> None:
        broker = msa.Broker(settings={"num.partitions": 1})
        assert not broker.is_running
        with pytest.raises(ms.ClosedError, match=r"await start\(\) first"):
            broker.producer()
        async with broker:
            assert broker.is_running
            assert broker.bootstrap.startswith("127.0.0.1:")
            async with broker.producer() as producer:
                await producer.send("orders", b"1")
            async with broker.consumer("orders", start="earliest") as consumer:
                message = await consumer.poll(20)
                assert message is not None
                assert message.value == b"1"
            await broker.start()
        assert not broker.is_running
        await broker.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_nodes_are_killed_held_still_and_started_again():
    async def main() -> None:
        async with msa.Broker(nodes=3) as broker:
            await broker.kill(2)
            assert [node.state for node in broker.nodes.values()] == ["running", "killed", "running"]
            await broker.restart(2)
            await broker.pause(3)
            assert broker.nodes[3].state == "paused"
            await broker.resume(3)
            assert {node.state for node in broker.nodes.values()} == {"running"}

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_process_of_its_own_is_killed_and_keeps_what_it_had(tmp_path):
    async def main() -> None:
        async with msa.Broker.spawn(tmp_path) as broker:
            async with broker.producer() as producer:
                await producer.send("orders", b"1")
            await broker.kill()
            assert not broker.is_running
        async with msa.Broker.spawn(tmp_path) as broker:
            async with broker.consumer("orders", start="earliest") as consumer:
                message = await consumer.poll(20)
                assert message is not None
                assert message.value == b"1"

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_start_that_nobody_waits_for_leaves_no_broker_behind(tmp_path):
    async def main() -> None:
        starting = asyncio.ensure_future(msa.Broker(tmp_path).start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "mainspring-stop":
            thread.join()
    # Two brokers in one directory are refused.
    with ms.Broker(tmp_path) as broker:
        assert broker.is_running
