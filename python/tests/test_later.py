"""Records that come later, sync and asyncio, against a broker in this process."""

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import mainspring
import mainspring.aio
import pytest
from mainspring import errors
from mainspring._later import delay_millis, later_headers, moment_millis

FEATURES = {"mainspring.features": "schedule"}


@pytest.fixture(scope="module")
def broker():
    with mainspring.Broker() as broker:
        yield broker


@pytest.fixture
def admin(broker):
    with mainspring.Admin(broker.bootstrap) as admin:
        yield admin


@pytest.fixture
def producer(broker):
    with mainspring.Producer(broker.bootstrap) as producer:
        yield producer


@pytest.fixture
def topic(admin, request):
    name = request.node.name
    admin.create_topic(name, partitions=2, config=FEATURES)
    return name


def read(broker, topic, count):
    with mainspring.Consumer(broker.bootstrap, topics=topic, group=topic, start="earliest") as consumer:
        return [consumer.poll(timeout=20) for _ in range(count)]


def test_a_delayed_record_comes_and_not_before_its_time(broker, producer, topic):
    sent = time.time()
    handle = producer.send(topic, b"later", delay=timedelta(seconds=1)).result(timeout=10).schedule_id
    (message,) = read(broker, topic, 1)
    assert time.time() - sent >= 1
    assert message.value == b"later"
    assert message.headers["mainspring-ticket"] == b"%d" % handle.ticket
    assert (message.topic, message.partition) == handle[:2]


def test_what_waits_is_listed_altered_and_remembered(broker, admin, producer, topic):
    century = datetime(2100, 1, 1, tzinfo=timezone.utc)
    far = producer.send(topic, b"far", deliver_at=century, id="far").result(timeout=10).schedule_id
    near = producer.send(topic, b"near", delay=60).result(timeout=10).schedule_id
    waits = admin.scheduled(topic)
    assert [(one.schedule_id, one.id, one.state) for one in waits] == [
        (near, None, "scheduled"),
        (far, "far", "scheduled"),
    ]
    assert waits[1].deliver_at == century
    assert [one.schedule_id for one in admin.scheduled(topic, before="+1h")] == [near]
    assert [one.schedule_id for one in admin.scheduled([topic], limit=1)] == [near]
    admin.reschedule(near, deliver_at=century + timedelta(days=1))
    assert [one.schedule_id for one in admin.scheduled(topic)] == [far, near]
    admin.deliver_now(near)
    (message,) = read(broker, topic, 1)
    ended = admin.schedule(near)
    assert (message.value, ended.state, ended.offset) == (b"near", "delivered", message.offset)
    with pytest.raises(errors.AlreadyDelivered) as late:
        producer.cancel(near)
    assert late.value.context["offset"] == message.offset
    producer.cancel(far)
    assert admin.schedule(far).state == "cancelled"
    assert admin.scheduled(topic) == []
    nothing = mainspring.ScheduleId(topic, 0, 12_345)
    assert admin.schedule(nothing) is None
    with pytest.raises(errors.KafkaError, match="INVALID_RECORD"):
        producer.cancel(nothing)


def test_equal_records_are_different_ones_and_an_equal_id_replaces(admin, producer, topic):
    for _ in range(3):
        producer.send(topic, b"x", b"u1", delay=60)
    producer.flush(timeout=10)
    assert len(admin.scheduled(topic)) == 3
    older = producer.send(topic, b"x", delay=60, id="n", partition=0).result(timeout=10).schedule_id
    newer = producer.send(topic, b"x", delay=60, id="n", partition=0).result(timeout=10).schedule_id
    producer.send(topic, b"x", delay=60, id="n", partition=1).result(timeout=10)
    assert len(admin.scheduled(topic)) == 5
    replaced = admin.schedule(older)
    assert (replaced.state, replaced.offset) == ("replaced", newer.ticket)


def test_a_delay_that_nobody_honours_is_refused(admin, producer, request):
    name = request.node.name
    admin.create_topic(name)
    for way in ({"delay": 5}, {"deliver_at": 0}):
        with pytest.raises(errors.ConfigError, match=r"mainspring\.features"):
            producer.send(name, b"x", **way)
    assert producer.send(name, b"x").result(timeout=10).schedule_id is None
    with pytest.raises(errors.TopicNotFound):
        producer.send("nobody", b"x", delay=5)


def test_times_and_names_that_make_no_sense_are_refused():
    assert delay_millis(0.0001) == 1, "a delay is never cut short"
    assert delay_millis(timedelta(days=365_000)) == 365_000 * 86_400_000
    for wrong in (-1, timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="below 0"):
            delay_millis(wrong)
    for wrong in ("5m", True):
        with pytest.raises(TypeError):
            delay_millis(wrong)
    for wrong in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match="ever comes"):
            delay_millis(wrong)
    with pytest.raises(ValueError, match="either"):
        later_headers(1, 1, None)
    century = datetime(2100, 1, 1, tzinfo=timezone.utc)
    assert moment_millis(century + timedelta(microseconds=1)) == moment_millis(century) + 1
    for wrong in (-1, 253_402_300_800_000):
        with pytest.raises(ValueError, match="9999"):
            moment_millis(wrong)
    # Seconds, which would be a moment in 1970.
    with pytest.raises(ValueError, match="in 1970 in milliseconds since 1970; seconds are multiplied by 1000"):
        moment_millis(1_790_000_000)
    for wrong in ("tomorrow", True, 1.5, timedelta(hours=1)):
        with pytest.raises(TypeError, match="deliver_at"):
            moment_millis(wrong)
    with pytest.raises(ValueError, match="zone"):
        later_headers(None, datetime(2100, 1, 1), None)
    for name in ("", "n" * 257):
        with pytest.raises(ValueError, match="bytes"):
            later_headers(None, None, name)
    # bytes(5) would be five zeros.
    number: Any = 5
    with pytest.raises(TypeError, match="an id is a str or bytes, and not int"):
        later_headers(1, None, number)


def test_lists_and_handles_that_make_no_sense_are_refused(admin, topic):
    for wrong in ("1h", "+1y", "soon"):
        with pytest.raises(ValueError, match=r"\+1h"):
            admin.scheduled(topic, before=wrong)
    with pytest.raises(TypeError, match=r"\+1h"):
        admin.scheduled(topic, before=60)
    for lists in (admin.scheduled, admin.half_messages):
        with pytest.raises(ValueError, match="below 0"):
            lists(topic, limit=-1)
        with pytest.raises(errors.TopicNotFound):
            lists("nobody")
    for handle in (17, "0@17", (topic, 0)):
        with pytest.raises(TypeError, match="ScheduleId"):
            admin.deliver_now(handle)
    nothing = mainspring.ScheduleId(topic, 0, 17)
    for times in ({}, {"delay": 1, "deliver_at": 1}):
        with pytest.raises(ValueError, match="either"):
            admin.reschedule(nothing, **times)
    with pytest.raises(errors.TopicNotFound):
        admin.deliver_now(mainspring.ScheduleId(topic, 9, 17))


def test_event_loops_ask_once_and_have_all_of_it(broker, topic):
    async def main():
        async with (
            mainspring.aio.Producer(broker.bootstrap) as producer,
            mainspring.aio.Admin(broker.bootstrap) as admin,
        ):
            with pytest.raises(errors.ConfigError, match="prepare"):
                producer.send(topic, b"x", delay=60)
            await producer.prepare(topic)
            handle = (await producer.send(topic, b"x", delay=60)).schedule_id
            assert [one.schedule_id for one in await admin.scheduled(topic)] == [handle]
            await admin.reschedule(handle, delay=90)
            await producer.cancel(handle)
            assert (await admin.schedule(handle)).state == "cancelled"

    asyncio.run(main())
