"""Wrong use of transactions: an error that says what to do, for threads and event loops alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import mainspring as ms
import pytest
from clients import Aio, Sync


@pytest.fixture(scope="module")
def broker() -> Iterator[ms.Broker]:
    with ms.Broker(settings={"num.partitions": 1}) as broker:
        yield broker


@pytest.fixture(params=[Sync, Aio], ids=["sync", "aio"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    client = request.param()
    yield client
    client.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A topic and transactional id that no other test has used."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{letters}-{time.time_ns()}"


def refused(says: str, kind: type[ms.MainspringError] = ms.TransactionStateError) -> Any:
    return pytest.raises(kind, match=says)


def test_a_producer_without_the_id_has_no_transactions(broker, client, name):
    with client.producer(broker.bootstrap) as plain:
        with refused(r'make one by Producer\(..., transactional_id="NAME"\)'):
            plain.transaction()
        # And is none the worse for it.
        assert plain.send_and_wait(name, b"1").offset == 0


def test_what_needs_all_acknowledgements_is_refused_without_them(client):
    for setting in ({"acks": 1}, {"enable_idempotence": False}):
        with refused("transactional", ms.ConfigError):
            client.producer("127.0.0.1:1", transactional_id="id", **setting)


def test_a_commit_or_abort_without_a_beginning(broker, client, name):
    with client.producer(broker.bootstrap, transactional_id=name) as producer:
        for end in ("commit", "abort"):
            with refused("is not begun; use it by `(async )?with producer.transaction"):
                getattr(producer.transaction(), end)()


def test_a_partition_that_is_not_there_would_fail_again(broker, client, name):
    with client.producer(broker.bootstrap, transactional_id=name) as producer:
        with producer.transaction() as tx:
            tx.send(name, b"1")
        with pytest.raises(ms.TransactionAborted) as caught, producer.transaction() as tx:
            tx.send(name, b"2", partition=9)
        assert not caught.value.retriable


def test_one_transaction_in_another(broker, client, name):
    with client.producer(broker.bootstrap, transactional_id=name) as producer:
        with producer.transaction() as tx:
            with refused("is open; end it before the next one begins"), producer.transaction():
                pass
            with refused("each is used once"), tx:
                pass
            tx.commit()
        with producer.transaction():
            pass


def test_a_record_outside_or_behind_a_transaction(broker, client, name):
    with client.producer(broker.bootstrap, transactional_id=name) as producer:
        with refused("send within `with producer.transaction"):
            producer.send(name, b"outside")
        with producer.transaction() as tx:
            tx.send(name, b"1")
        for late in (lambda: tx.send(name, b"2"), lambda: tx.send_many(name, [b"2"]), tx.commit):
            with refused("is committed; begin another by `(async )?with"):
                late()


def test_anything_on_a_producer_that_is_closed(broker, client, name):
    producer = client.producer(broker.bootstrap, transactional_id=name)
    with refused("closed", ms.ClosedError), producer.transaction() as tx:
        producer.close()
        tx.send(name, b"1")
    with refused("make another one", ms.ClosedError), producer.transaction():
        pass


def test_two_producers_with_one_id(broker, client, name):
    first = client.producer(broker.bootstrap, transactional_id=name)
    with refused("one producer at a time", ms.ProducerFenced) as fenced, first.transaction() as tx:
        tx.send(name, b"lost")
        first.flush(20)
        with client.producer(broker.bootstrap, transactional_id=name) as second:
            with second.transaction() as other:
                other.send(name, b"kept")
    assert fenced.value.fatal
    assert fenced.value.context["transactional_id"] == name
    # It stays of no use, and says so each time.
    with refused("a new one takes the place back", ms.ProducerFenced), first.transaction():
        pass
    with refused("a new one takes the place back", ms.ProducerFenced):
        first.send(name, b"late")
    first.close()


def test_a_timeout_that_the_broker_does_not_allow(broker, client, name):
    settings = {"transactional_id": name, "transaction_timeout_ms": 1_000_000_000}
    with client.producer(broker.bootstrap, **settings) as producer:
        with refused("lower transaction_timeout_ms", ms.KafkaError) as error:
            with producer.transaction():
                pass
        assert error.value.code == ms.ErrorCode.INVALID_TRANSACTION_TIMEOUT
        assert error.value.fatal


def test_a_commit_behind_the_timeout(broker, client, name):
    settings = {"transactional_id": name, "transaction_timeout_ms": 300}
    with client.producer(broker.bootstrap, **settings) as slow:
        with pytest.raises(ms.ProducerFenced) as late, slow.transaction() as tx:
            tx.send(name, b"slow")
            slow.flush(20)
            # Readers of committed records get no further until the broker has aborted it.
            with client.producer(broker.bootstrap) as plain:
                plain.send_and_wait(name, b"behind")
            with client.consumer(
                broker.bootstrap, topics=name, start="earliest", isolation="read_committed"
            ) as reader:
                assert [message.value for message in reader.take(1)] == [b"behind"]
        for said in (
            "longer than transaction_timeout_ms (300) allows",
            "none of it counts",
            "make a new one, and commit more often or raise transaction_timeout_ms",
        ):
            assert said in str(late.value)
        assert late.value.fatal
