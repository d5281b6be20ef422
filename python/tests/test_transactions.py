"""Transactions: what counts together, what counts never, and what is refused with which words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import mainspring as ms
import mainspring.aio as msa
import pytest


@pytest.fixture(scope="module")
def broker() -> Iterator[ms.Broker]:
    with ms.Broker(settings={"num.partitions": 1}) as broker:
        yield broker


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A topic, group and transactional id that no other test has used."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{letters}-{time.time_ns()}"


def committed(broker: ms.Broker, topic: str) -> list[bytes]:
    """What readers of committed records see, up to a record that is sent behind all others."""
    with ms.Producer(broker.bootstrap) as producer:
        producer.send(topic, b"end").result(20)
    seen: list[bytes] = []
    with ms.Consumer(
        broker.bootstrap, topics=topic, start="earliest", isolation_level="read_committed"
    ) as consumer:
        while (message := consumer.poll(20)) is not None and message.value != b"end":
            seen.append(message.value)
    return seen


def test_a_commit_is_seen_by_readers_of_committed_records_and_not_before(broker, name):
    with (
        ms.Producer(broker.bootstrap, transactional_id=name) as producer,
        ms.Consumer(
            broker.bootstrap, topics=[], isolation="read_committed", fetch_max_wait_ms=50
        ) as consumer,
    ):
        with producer.transaction() as tx:
            tx.send_many(name, [b"1", b"2"])
            producer.flush(20)
            consumer.assign({(name, 0): "earliest"})
            assert consumer.poll(0.5) is None
            last = tx.send(name, b"3")
        assert last.done()
        assert [consumer.poll(20).value for _ in range(3)] == [b"1", b"2", b"3"]


def test_what_is_aborted_is_never_seen(broker, name):
    with ms.Producer(broker.bootstrap, transactional_id=name) as producer:
        with pytest.raises(ZeroDivisionError), producer.transaction() as tx:
            tx.send(name, b"aborted").result(20)
            kept = tx.send(name, b"kept")
            raise ZeroDivisionError
        assert isinstance(kept.exception(20), ms.TransactionAborted)
        with producer.transaction() as tx:
            tx.send(name, b"early end")
            tx.abort()
        with producer.transaction() as tx:
            tx.send(name, b"committed")
    assert committed(broker, name) == [b"committed"]


def test_offsets_and_records_count_together_or_not_at_all(broker, name):
    source, sink = f"{name}-in", f"{name}-out"
    with ms.Producer(broker.bootstrap) as producer:
        producer.send_many(source, [b"1", b"2"])
    place = ms.TopicPartition(source, 0)
    with (
        ms.Producer(broker.bootstrap, transactional_id=name) as producer,
        ms.Consumer(
            broker.bootstrap, topics=source, group=name, start="earliest", isolation="read_committed"
        ) as consumer,
    ):
        batch = next(consumer.batches(2, max_wait=5))
        with pytest.raises(ZeroDivisionError), producer.transaction() as tx:
            tx.send_many(sink, batch.values())
            tx.commit_offsets(consumer, batch)
            raise ZeroDivisionError
        assert consumer.committed([place]) == {place: None}
        consumer.rewind()
        batch = next(consumer.batches(2, max_wait=5))
        assert batch.values() == [b"1", b"2"]
        with producer.transaction() as tx:
            tx.send_many(sink, batch.values())
            tx.commit_offsets(consumer, batch)
        assert consumer.committed([place]) == {place: 2}
        with producer.transaction() as tx, pytest.raises(ms.RebalanceInProgress):
            tx.commit_offsets(consumer, {(sink, 0): 1})
    assert committed(broker, sink) == [b"1", b"2"]


def test_a_second_producer_with_the_id_fences_the_first(broker, name):
    first = ms.Producer(broker.bootstrap, transactional_id=name)
    with pytest.raises(ms.ProducerFenced) as fenced, first.transaction() as tx:
        tx.send(name, b"lost").result(20)
        with (
            ms.Producer(broker.bootstrap, transactional_id=name) as second,
            second.transaction() as other,
        ):
            other.send(name, b"kept")
    assert fenced.value.fatal
    assert fenced.value.context == {"transactional_id": name}
    assert "a new one takes the place back" in str(fenced.value)
    with pytest.raises(ms.ProducerFenced), first.transaction():
        pass
    first.close()
    assert committed(broker, name) == [b"kept"]


def test_a_record_that_fails_aborts_the_transaction_and_the_next_one_succeeds(broker, name):
    with ms.Producer(broker.bootstrap, transactional_id=name) as producer:
        with pytest.raises(ms.TransactionAborted) as aborted, producer.transaction() as tx:
            tx.send(name, b"1")
            tx.send("no such name!", b"2")
        assert not aborted.value.retriable
        assert aborted.value.__cause__.code == ms.ErrorCode.INVALID_TOPIC_EXCEPTION
        with producer.transaction() as tx:
            tx.send(name, b"3")
    assert committed(broker, name) == [b"3"]


def test_what_does_not_fit_is_refused_with_what_to_do(broker, name):
    def refused() -> pytest.RaisesExc[ms.TransactionStateError]:
        return pytest.raises(ms.TransactionStateError)

    with ms.Producer(broker.bootstrap) as plain:
        with refused() as error:
            plain.transaction()
        assert 'make one by Producer(..., transactional_id="NAME")' in str(error.value)
    with ms.Producer(broker.bootstrap, transactional_id=name) as producer:
        for send in (producer.send, lambda *record: producer.send_many(record[0], [record[1]])):
            with refused() as error:
                send(name, b"outside")
            assert "`with producer.transaction() as tx:`" in str(error.value)
        with producer.transaction() as tx:
            with refused() as error, producer.transaction():
                pass
            assert "a transaction of this producer is open; end it" in str(error.value)
            tx.send(name, b"1")
            tx.commit()
        for late in (tx.commit, tx.abort, lambda: tx.send(name, b"2"), tx.__enter__):
            with refused() as error:
                late()
            assert "this transaction is committed; begin another" in str(error.value)
        with refused() as error:
            producer.transaction().commit()
        assert "is not begun" in str(error.value)
    assert committed(broker, name) == [b"1"]


def test_a_transaction_does_not_wait_for_a_broker_for_ever():
    producer = ms.Producer("127.0.0.1:1", transactional_id="nowhere", max_block_ms=100)
    with pytest.raises(ms.OperationTimeout, match="max_block_ms"), producer.transaction():
        pass
    producer.close(1)


def test_a_producer_that_is_closed_in_a_block_aborts_it(broker, name):
    producer = ms.Producer(broker.bootstrap, transactional_id=name)
    with pytest.raises(ms.ClosedError), producer.transaction() as tx:
        tx.send(name, b"open").result(20)
        producer.close()
    assert committed(broker, name) == []


def test_event_loops_have_transactions_too_and_a_cancelled_block_is_aborted(broker, name):
    async def main() -> None:
        async with msa.Producer(broker.bootstrap, transactional_id=name) as producer:
            async with producer.transaction() as tx:
                assert (await tx.send(name, b"1")).offset == 0
                assert await tx.send_many(name, [b"2", b"3"]) == 2

            is_inside = asyncio.Event()

            async def cancelled() -> None:
                async with producer.transaction() as tx:
                    await tx.send(name, b"cancelled")
                    is_inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(cancelled())
            await is_inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with msa.Consumer(
                broker.bootstrap, topics=name, group=name, start="earliest", isolation="read_committed"
            ) as consumer:
                async for batch in consumer.batches(3, max_wait=5):
                    async with producer.transaction() as tx:
                        await tx.send_many(f"{name}-out", batch.values())
                        await tx.commit_offsets(consumer, batch)
                    break
                place = ms.TopicPartition(name, 0)
                # Behind the marker of the commit, what was cancelled, and the marker of its abort.
                assert await consumer.committed([place]) == {place: 6}
            with pytest.raises(ms.TransactionStateError):
                producer.send(name, b"outside")

    asyncio.run(asyncio.wait_for(main(), 60))
    assert committed(broker, f"{name}-out") == [b"1", b"2", b"3"]
