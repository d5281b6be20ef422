"""What producers and consumers do, the same for threads and for event loops."""

from __future__ import annotations

import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mainspring
import pytest
from clients import Aio, Sync


class Elsewhere:
    """A broker that somebody else has started: Apache Kafka, for example."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


@pytest.fixture(scope="module")
def broker() -> Iterator[mainspring.Broker | Elsewhere]:
    elsewhere = os.environ.get("MAINSPRING_TEST_BOOTSTRAP")
    if elsewhere:
        yield Elsewhere(elsewhere)
        return
    with mainspring.Broker(settings={"num.partitions": 1}) as broker:
        yield broker


@pytest.fixture(params=[Sync, Aio], ids=["sync", "aio"])
def client(request: Any) -> Iterator[Any]:
    client = request.param()
    yield client
    client.close()


@pytest.fixture
def topic(request: Any) -> str:
    """A name that no other test and no earlier run has used."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{name}-{time.time_ns()}"


class Heard(logging.Handler):
    """What clients log, for whoever waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())

    def wait_for(self, text: str) -> None:
        while text not in self.lines.get(timeout=20):
            pass


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    logging.getLogger("mainspring").addHandler(handler)
    yield handler
    logging.getLogger("mainspring").removeHandler(handler)


VALUES = [str(number).encode() for number in range(1000)]


def filled(client: Any, broker: mainspring.Broker, topic: str, values: list[bytes] = VALUES) -> None:
    with client.producer(broker.bootstrap) as producer:
        producer.send_many(topic, values)


def test_a_record_comes_back_with_all_that_was_sent(client, broker, topic):
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    headers = [("a", b"1"), ("n", None), ("a", "zwei")]
    with client.producer(broker.bootstrap) as producer:
        stored = producer.send_and_wait(topic, b"v", b"k", headers=headers, timestamp=moment)
        assert (stored.topic, stored.partition, stored.offset) == (topic, 0, 0)
        producer.send_and_wait(topic, None)
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        first, second = consumer.take(2)
    assert (first.value, first.key, first.offset, first.partition) == (b"v", b"k", 0, 0)
    assert first.headers.pairs() == [("a", b"1"), ("n", None), ("a", b"zwei")]
    assert first.headers["a"] == b"zwei"
    assert first.headers.all("a") == [b"1", b"zwei"]
    assert first.timestamp == stored.timestamp == int(moment.timestamp() * 1000)
    assert (second.value, second.key, second.raw) == (None, None, None)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_written_and_read(client, broker, topic, codec):
    with client.producer(broker.bootstrap, compression=codec) as producer:
        producer.send_many(topic, VALUES)
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        assert [message.value for message in consumer.take(1000)] == VALUES


def test_bytearrays_and_views_are_copied_as_they_are_when_sent(client, broker, topic):
    data = bytearray(b"before")
    with client.producer(broker.bootstrap) as producer:
        producer.send(topic, data)
        producer.send(topic, memoryview(data)[1:3], bytearray(b"k"))
        data[:] = b"after!"
        data.extend(b"no view of it is left")
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        assert [(m.value, m.key) for m in consumer.take(2)] == [(b"before", None), (b"ef", b"k")]


def test_keys_go_where_javas_client_sends_them(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        producer.send_and_wait(topic, b"")
        for key in (b"21", b"foobar", b"abc"):
            assert producer.send_and_wait(topic, b"", key).partition == 0


def test_a_batch_crosses_at_once(client, broker, topic):
    filled(client, broker, topic)
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        batch = consumer.batch(max_records=300)
        assert len(batch) == 300
        assert batch.values() == VALUES[:300]
        assert batch.keys() == [None] * 300
        assert batch.offsets == {(topic, 0): 300}
        assert [message.offset for message in batch] == list(range(300))
        assert batch[-1].value == VALUES[299]
        with pytest.raises(IndexError):
            batch[300]
        assert consumer.batch(max_records=5000).values() == VALUES[300:]


def test_a_batch_waits_for_more_as_long_as_it_may(client, broker, topic):
    filled(client, broker, topic, VALUES[:10])
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        assert len(consumer.batch(max_records=20, max_wait=0.2)) == 10


def test_a_group_goes_on_behind_what_was_committed(client, broker, topic):
    filled(client, broker, topic)
    settings = {"topics": topic, "group": topic, "start": "earliest", "auto_commit": False}
    with client.consumer(broker.bootstrap, **settings) as consumer:
        messages = consumer.take(10)
        consumer.commit(messages[3])
        assert consumer.committed([(topic, 0)]) == {(topic, 0): 4}
        consumer.commit()
        assert consumer.committed([(topic, 0)]) == {(topic, 0): 10}
        consumer.commit({(topic, 0): 7})
    with client.consumer(broker.bootstrap, **settings) as consumer:
        assert consumer.take(1)[0].offset == 7
        batch = consumer.batch(max_records=50)
        consumer.commit(batch)
        assert consumer.committed([(topic, 0)]) == {(topic, 0): 58}


class Failed(Exception):
    pass


@pytest.mark.parametrize("auto_commit", [False, True])
def test_a_message_whose_handler_failed_is_never_committed(client, broker, topic, auto_commit):
    filled(client, broker, topic, VALUES[:10])
    settings = {"topics": topic, "group": topic, "start": "earliest", "auto_commit": auto_commit}

    def work(message: Any) -> None:
        if message.offset == 3:
            raise Failed

    with pytest.raises(Failed), client.consumer(broker.bootstrap, **settings) as consumer:
        consumer.each(work)
    with client.consumer(broker.bootstrap, **settings) as consumer:
        stored = consumer.committed([(topic, 0)])[(topic, 0)]
        assert stored == (3 if auto_commit else None)
        assert consumer.take(1)[0].offset == (stored or 0)


def test_a_batch_whose_handler_failed_is_not_committed(client, broker, topic):
    filled(client, broker, topic, VALUES[:10])
    settings = {"topics": topic, "group": topic, "start": "earliest"}
    with pytest.raises(Failed), client.consumer(broker.bootstrap, **settings) as consumer:
        assert len(consumer.batch(max_records=5)) == 5
        raise Failed
    with client.consumer(broker.bootstrap, **settings) as consumer:
        assert consumer.take(1)[0].offset == 0


def test_reading_begins_where_it_is_told(client, broker, topic):
    filled(client, broker, topic)
    place = (topic, 0)
    # A new place is read once the fetch that waits at the old one has come back.
    settings = {"start": 990, "topics": topic, "fetch_max_wait_ms": 10}
    with client.consumer(broker.bootstrap, **settings) as consumer:
        assert consumer.take(1)[0].offset == 990
        consumer.seek(topic, 0, 100)
        assert consumer.take(1)[0].offset == 100
        consumer.seek(topic, 0, "earliest")
        assert consumer.take(1)[0].offset == 0
        consumer.seek(topic, 0, datetime.now(UTC) - timedelta(hours=1))
        assert consumer.take(1)[0].offset == 0
        consumer.seek(topic, 0, "latest")
        while consumer.lag() == {place: None}:
            assert consumer.take(1, timeout=0.01) == []
        assert consumer.lag() == {place: 0}
        consumer.assign({place: 5})
        assert consumer.take(1)[0].offset == 5
        with pytest.raises(LookupError, match="is not read"):
            consumer.seek(topic, 7, 0)


def test_pause_resume_and_seek_in_every_order(client, broker, topic):
    filled(client, broker, topic)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    place = (topic, 0)
    expected, paused = 0, False
    settings = {"topics": topic, "start": "earliest", "fetch_max_wait_ms": 10}
    with client.consumer(broker.bootstrap, **settings) as consumer:
        for _ in range(300):
            step = chance.choice(["poll", "poll", "poll", "pause", "resume", "seek", "end"])
            if step == "poll":
                taken = consumer.take(1, timeout=0.005 if paused or expected == 1000 else 20)
                if paused or expected == 1000:
                    assert taken == []
                else:
                    assert [message.offset for message in taken] == [expected]
                    expected += 1
            elif step == "pause":
                consumer.pause([place])
                paused = True
            elif step == "resume":
                consumer.resume([place])
                paused = False
            elif step == "seek":
                expected = chance.randrange(1000)
                consumer.seek(topic, 0, expected)
            elif chance.random() < 0.2:
                expected = 1000
                consumer.seek(topic, 0, "latest")


def test_a_pattern_reads_all_topics_that_match(client, broker, topic):
    for name in (f"{topic}-a", f"{topic}-b", f"other-{topic}"):
        filled(client, broker, name, [name.encode()])
    settings = {"topics": f"^{topic}-[ab]$", "group": topic, "start": "earliest"}
    with client.consumer(broker.bootstrap, **settings) as consumer:
        assert sorted(m.value for m in consumer.take(2)) == [
            f"{topic}-a".encode(),
            f"{topic}-b".encode(),
        ]
        assert consumer.assignment() == [(f"{topic}-a", 0), (f"{topic}-b", 0)]
    with pytest.raises(mainspring.ConfigError, match="no pattern"):
        client.consumer(broker.bootstrap, topics="^(", group="g")
    with pytest.raises(mainspring.ConfigError, match="needs a group"):
        client.consumer(broker.bootstrap, topics="^a")


def test_two_members_share_the_partitions_and_each_is_told(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        producer.send_and_wait(topic, b"")
    told: list[tuple[str, list[Any]]] = []
    settings = {"topics": topic, "group": topic, "start": "earliest"}
    callbacks = {
        f"on_{kind}": lambda places, kind=kind: told.append((kind, places))
        for kind in ("assigned", "revoked", "lost")
    }
    with client.consumer(broker.bootstrap, **settings, **callbacks) as consumer:
        assert len(consumer.take(1)) == 1
        assert consumer.assignment() == [(topic, 0)]
    assert told[0] == ("assigned", [(topic, 0)])


@pytest.mark.parametrize(
    "spelling",
    [
        {"group": "NAME", "start": "earliest"},
        {"group_id": "NAME", "auto_offset_reset": "earliest"},
        {"config": {"group.id": "NAME", "auto.offset.reset": "earliest"}},
    ],
    ids=["short", "keyword", "dotted"],
)
def test_a_group_is_joined_however_its_name_is_given(client, broker, topic, spelling):
    filled(client, broker, topic, VALUES[:4])
    settings = {
        name: {"group.id": topic, "auto.offset.reset": "earliest"} if name == "config" else value
        for name, value in spelling.items()
    }
    settings = {name: topic if value == "NAME" else value for name, value in settings.items()}
    with client.consumer(broker.bootstrap, topics=topic, **settings) as consumer:
        assert [message.value for message in consumer.take(2)] == VALUES[:2]
        consumer.commit()
    with client.consumer(broker.bootstrap, topics=topic, group=topic) as consumer:
        assert [message.value for message in consumer.take(2)] == VALUES[2:4]


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_offset_reset": "earliest"},
        {"enable_auto_commit": False, "start": "earliest", "group": "NAME"},
        {"config": {"enable.auto.commit": False, "isolation.level": "read_committed"}, "start": "earliest"},
        {"isolation_level": "read_committed", "config": {"auto.offset.reset": "earliest"}},
    ],
)
def test_what_is_not_given_is_not_given_twice(client, broker, topic, settings):
    filled(client, broker, topic, VALUES[:2])
    settings = {name: topic if value == "NAME" else value for name, value in settings.items()}
    with client.consumer(broker.bootstrap, topics=topic, **settings) as consumer:
        assert [message.value for message in consumer.take(2)] == VALUES[:2]


@pytest.mark.parametrize(
    "settings",
    [
        {"group": "a", "group_id": "a"},
        {"start": "latest", "config": {"auto.offset.reset": "latest"}},
        {"group": "a", "auto_commit": True, "enable_auto_commit": True},
        {"isolation": "read_committed", "isolation_level": "read_committed"},
    ],
)
def test_what_is_given_twice_is_refused(client, broker, settings):
    with pytest.raises(mainspring.ConfigError, match="given twice"):
        client.consumer(broker.bootstrap, topics="t", **settings)


def test_wrong_use_says_what_to_do(client, broker, topic):
    with pytest.raises(mainspring.ConfigError, match="linger_ms"):
        client.producer(broker.bootstrap, linger_mss=5)
    with pytest.raises(mainspring.ConfigError):
        client.producer(broker.bootstrap, acks="some")
    with pytest.raises(mainspring.ConfigError, match="twice"):
        client.producer(broker.bootstrap, linger_ms=5, config={"linger.ms": 6})
    with pytest.raises(mainspring.ConfigError):
        client.producer("nowhere")
    with client.producer(broker.bootstrap) as producer:
        with pytest.raises(TypeError, match=r"\.encode\(\)"):
            producer.send(topic, "text")
        with pytest.raises(TypeError, match="the key is of type int"):
            producer.send(topic, b"", 7)
        with pytest.raises(TypeError, match="header"):
            producer.send(topic, b"", headers={"a": 3})
        with pytest.raises(ValueError, match="zone"):
            producer.send(topic, b"", timestamp=datetime(2026, 1, 1))
        with pytest.raises(mainspring.MessageTooLarge, match="max_request_size"):
            producer.send(topic, bytes(2 << 20))
        with pytest.raises(mainspring.ConfigError, match="partition"):
            producer.send(topic, b"", partition=-1)
        with pytest.raises(mainspring.MainspringError):
            producer.send_and_wait("no/topic", b"")
        with pytest.raises(TypeError, match="add_done_callback"):
            producer.send(topic, b"", on_delivery=print)
        with pytest.raises(TypeError, match="'colour'"):
            producer.send(topic, b"", colour="red")
        with pytest.raises(TypeError, match=r"send\(topic, value\) sends one"):
            producer.send_many(topic, b"123")
        with pytest.raises(AttributeError, match=r"send\(topic, value"):
            producer.produce(topic, b"")
        stored = producer.send_and_wait(topic, b"1")
        assert stored.offset == 0
    with pytest.raises(mainspring.ClosedError, match="closed"):
        producer.send(topic, b"2")
    with pytest.raises(mainspring.TopicNotFound):
        client.consumer(broker.bootstrap, topics="there-is-none")
    for start in ("begin", 1.5, True):
        with pytest.raises(mainspring.ConfigError, match="start is"):
            client.consumer(broker.bootstrap, topics=topic, start=start)
    with pytest.raises(mainspring.ConfigError, match="settings are keywords"):
        client.consumer({"bootstrap.servers": broker.bootstrap}, topics=topic)
    with pytest.raises(mainspring.ConfigError, match="9092"):
        client.producer(9092)
    with pytest.raises(mainspring.ConfigError, match="needs a group"):
        client.consumer(broker.bootstrap, topics=topic, auto_commit=True)


def test_a_partition_that_is_not_there_is_named_before_the_time_is_over(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        producer.send_and_wait(topic, b"1")
        begun = time.monotonic()
        with pytest.raises(mainspring.TopicNotFound, match="no such partition: it has 1"):
            producer.send_and_wait(topic, b"2", partition=99)
        assert time.monotonic() - begun < 15


def test_a_topic_that_is_not_there_is_told_and_is_what_the_record_fails_of(client, heard):
    with (
        mainspring.Broker(settings={"auto.create.topics.enable": False}) as broker,
        client.producer(
            broker.bootstrap, delivery_timeout_ms=4000, request_timeout_ms=2000
        ) as producer,
        pytest.raises(mainspring.TopicNotFound, match="create it first"),
    ):
        producer.send_and_wait("nobody", b"1")
    heard.wait_for("there is no topic nobody; asking for it again by itself")


def test_what_was_not_stored_is_told_where_nobody_keeps_the_delivery(client, broker, topic, heard):
    producer = client.producer(broker.bootstrap)
    producer.send_and_wait(topic, b"0")
    producer.send_many(topic, [b"1", b"2"], partition=7)
    with pytest.raises(mainspring.TopicNotFound, match=f"topic {topic}, partition 7") as caught:
        producer.flush(timeout=20)
    assert "the first of 2 records" in caught.value.__notes__[0]
    producer.flush(timeout=20)
    heard.wait_for(f"2 records were not stored, of topic {topic}, partition 7")

    producer.send(topic, b"3", partition=7)
    with pytest.raises(mainspring.TopicNotFound):
        producer.close()
    assert producer.is_closed


def test_what_a_producer_has_taken_that_nobody_holds_any_more_is_sent(client, broker, topic):
    def send() -> None:
        producer = client.producer(broker.bootstrap, linger_ms=50)
        producer.send_many(topic, VALUES)

    send()
    # A group waits for a topic that is in the making.
    with client.consumer(broker.bootstrap, topics=topic, group=topic, start="earliest") as consumer:
        assert [message.value for message in consumer.take(1000)] == VALUES


def test_a_failure_whose_delivery_is_kept_is_told_by_that_alone(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        producer.send_and_wait(topic, b"0")
        kept = producer.send(topic, b"1", partition=7)
        producer.flush(timeout=20)
        assert kept.done()
        assert kept.exception().context == {"topic": topic, "partition": 7}


def test_an_error_of_one_of_many_says_how_many_were_taken(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        with pytest.raises(TypeError) as caught:
            producer.send_many(topic, [b"1", b"2", "3"])
        assert caught.value.__notes__ == ["no record of send_many was taken before it"]
        with pytest.raises(TypeError) as caught:
            producer.send_many(topic, [*VALUES * 5, "x"])
        assert caught.value.__notes__ == [
            "4096 records of send_many were taken before it, and are on their way"
        ]
        stored = producer.send_and_wait(topic, b"")
        assert stored.offset == 4096


def test_what_is_no_offset_is_stored_nowhere(client, broker, topic):
    filled(client, broker, topic, VALUES[:5])
    with client.consumer(broker.bootstrap, topics=topic, group=topic, start="earliest") as consumer:
        consumer.take(3)
        consumer.commit()
        for wrong in (-1, -2, -1001):
            with pytest.raises(mainspring.ConfigError, match="count from 0"):
                consumer.commit({(topic, 0): wrong})
            with pytest.raises(mainspring.ConfigError, match="count from 0"):
                consumer.seek(topic, 0, wrong)
        assert consumer.committed([(topic, 0)]) == {(topic, 0): 3}
        with pytest.raises(TypeError, match="not of type int"):
            consumer.commit(5)
        with pytest.raises(mainspring.ConfigError, match="max_records"):
            consumer.batch(max_records=0)


def test_a_partition_that_is_assigned_and_not_there_is_told(client, broker, topic, heard):
    filled(client, broker, topic, VALUES[:1])
    with client.consumer(broker.bootstrap) as consumer:
        consumer.assign([(topic, 7)])
        heard.wait_for(f"partition 7 of topic {topic}: the topic has no such partition: it has 1")


def test_a_consumer_that_is_closed_says_so_and_one_that_is_stopped_ends(client, broker, topic):
    filled(client, broker, topic, VALUES[:2])
    consumer = client.consumer(broker.bootstrap, topics=topic, start="earliest")
    with consumer:
        assert len(consumer.take(1)) == 1
        consumer.stop()
        assert consumer.take(1) == []
    with pytest.raises(mainspring.ClosedError, match="make another one"):
        consumer.take(1)
    with pytest.raises(mainspring.ClosedError):
        consumer.batch()
    with pytest.raises(mainspring.ClosedError):
        consumer.each(print)
    with pytest.raises(AttributeError, match="batches"):
        consumer.consume()


def test_the_next_message_is_asked_for_by_pythons_own_function(client, broker, topic):
    filled(client, broker, topic, VALUES[:2])
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        assert [consumer.following().value for _ in range(2)] == VALUES[:2]


def test_a_flush_that_is_not_done_says_how_many_are_left(client, topic):
    producer = client.producer("127.0.0.1:1")
    producer.send_many(topic, VALUES[:7])
    with pytest.raises(mainspring.FlushTimeout) as told:
        producer.flush(timeout=0.05)
    assert told.value.remaining == 7
    assert producer.pending == 7
    with pytest.raises(mainspring.FlushTimeout):
        producer.close(timeout=0.05)
    assert producer.is_closed


def test_a_full_buffer_is_an_error_that_names_the_way_out(client, topic):
    settings = {"buffer_memory": 100_000, "max_block_ms": 50}
    if client.name == "aio":
        del settings["max_block_ms"]
    producer = client.producer("127.0.0.1:1", **settings)
    with pytest.raises(mainspring.BufferFull, match="buffer_memory"):
        for _ in range(200):
            producer.send(topic, bytes(1000))
    with pytest.raises(mainspring.FlushTimeout):
        producer.close(timeout=0)


def test_nobody_waits_for_what_cannot_come(client, broker, topic):
    for name in ("", "no name", ".", "x" * 250):
        with pytest.raises(mainspring.ConfigError, match="is no name of a topic"):
            client.consumer(broker.bootstrap, topics=[topic, name], group=topic)
    for settings in ({}, {"group": topic}):
        with client.consumer(broker.bootstrap, **settings) as consumer:
            with pytest.raises(mainspring.ConfigError, match="reads nothing: name topics"):
                consumer.take(1)
            with pytest.raises(mainspring.ConfigError, match="reads nothing: name topics"):
                consumer.batch()
            with pytest.raises(mainspring.ConfigError, match="reads nothing: name topics"):
                consumer.each(print)
            with pytest.raises(mainspring.ConfigError, match="takes a topic"):
                consumer.subscribe([])
    for seconds in (-1, float("nan")):
        with (
            client.consumer(broker.bootstrap, topics=topic, group=topic) as consumer,
            pytest.raises(mainspring.ConfigError, match="from 0 on, or None"),
        ):
            consumer.take(1, timeout=seconds)


def test_offsets_of_no_group_are_refused_by_those_words(client, broker, topic):
    filled(client, broker, topic, VALUES[:1])
    with client.consumer(broker.bootstrap, topics=topic, start="earliest") as consumer:
        consumer.take(1)
        for work in (consumer.commit, consumer.rewind, lambda: consumer.committed([(topic, 0)])):
            with pytest.raises(mainspring.ConfigError, match="in no group"):
                work()
    with pytest.raises(mainspring.ConfigError, match="is for a group"):
        client.consumer(broker.bootstrap, topics=topic, start="none")


def test_what_is_closed_lets_nobody_in(client, broker, topic):
    producer = client.producer(broker.bootstrap)
    producer.close()
    consumer = client.consumer(broker.bootstrap, topics=topic, group=topic)
    consumer.close()
    for closed in (producer, consumer):
        with pytest.raises(mainspring.ClosedError, match="is closed; make another one"):
            client.enter(closed)
    for work in (
        consumer.commit,
        consumer.positions,
        lambda: consumer.subscribe(topic),
        lambda: consumer.seek(topic, 0, 0),
        lambda: consumer.pause([(topic, 0)]),
    ):
        with pytest.raises(mainspring.ClosedError, match="this consumer is closed; make another one"):
            work()


def test_settings_of_the_other_client_and_empty_names_are_refused(client, broker):
    with pytest.raises(mainspring.ConfigError, match="group is a setting of a consumer, not of a producer"):
        client.producer(broker.bootstrap, group="g")
    with pytest.raises(mainspring.ConfigError, match="transactional_id is empty"):
        client.producer(broker.bootstrap, transactional_id="")
    with pytest.raises(mainspring.ConfigError, match="not named by URLs"):
        client.producer("http://localhost:9092")


def test_a_flush_and_the_end_of_a_block_wait_for_callbacks(client, broker, topic):
    called = []
    with client.producer(broker.bootstrap) as producer:
        for expected in (300, 600):
            for _ in range(300):
                producer.send(topic, b"v").add_done_callback(lambda done: called.append(done.result().offset))
            if expected == 300:
                producer.flush(timeout=20)
                assert len(called) == expected
    assert sorted(called) == list(range(600))


def test_a_callback_that_never_returns_holds_a_flush_up_for_its_time_alone(client, broker, topic, heard):
    release = threading.Event()
    with client.producer(broker.bootstrap) as producer:
        producer.send(topic, b"v").add_done_callback(lambda _: release.wait(20))
        producer.flush(timeout=0.3)
        heard.wait_for("callbacks of deliveries have not returned in time; they go on")
        release.set()
        # One that flushes by itself waits for no callback.
        again = threading.Event()
        producer.send(topic, b"v").add_done_callback(lambda _: again.set())
        producer.flush(timeout=20)
        assert again.is_set()


def test_a_callback_that_exits_ends_itself_alone(client, broker, topic, heard):
    called = threading.Event()
    with client.producer(broker.bootstrap) as producer:
        producer.send(topic, b"v").add_done_callback(lambda _: sys.exit(3))
        producer.send(topic, b"v").add_done_callback(lambda _: called.set())
        producer.flush(timeout=20)
        assert called.is_set()
    heard.wait_for("a callback of a delivery failed")


def test_who_subscribes_in_a_group_assigns_nothing(client, broker, topic):
    with client.producer(broker.bootstrap) as producer:
        producer.send_and_wait(topic, b"v")
    settings = {"group": f"{topic}-group", "start": "earliest"}
    with client.consumer(broker.bootstrap, topics=topic, **settings) as consumer:
        with pytest.raises(mainspring.ConfigError, match="the group gives this consumer its partitions"):
            consumer.assign([(topic, 0)])
        assert [message.value for message in consumer.take(1)] == [b"v"]
    with client.consumer(broker.bootstrap, **settings) as consumer:
        consumer.assign({(topic, 0): "earliest"})
        assert [message.value for message in consumer.take(1)] == [b"v"]
