"""The administrator, sync and asyncio, against a broker in this process."""

import asyncio
import inspect
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import mainspring
import mainspring.aio
import pytest
from mainspring import errors
from mainspring.serde import Utf8


@pytest.fixture(scope="module")
def broker():
    with mainspring.Broker() as broker:
        yield broker


@pytest.fixture
def admin(broker):
    with mainspring.Admin(broker.bootstrap) as admin:
        yield admin


@pytest.fixture
def topic(admin, request):
    name = request.node.name
    admin.create_topic(name, partitions=2, config={"retention.ms": timedelta(hours=1)})
    return name


def fill(broker, topic, count):
    with mainspring.Producer(broker.bootstrap) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=number % 2)
        producer.flush(timeout=20)


def read(broker, topic, group, count):
    with mainspring.Consumer(
        broker.bootstrap, topics=topic, group=group, start="earliest"
    ) as consumer:
        for _ in range(count):
            assert consumer.poll(timeout=20) is not None
        consumer.commit()


def test_a_topic_is_made_described_changed_and_deleted(broker, admin, topic):
    fill(broker, topic, 5)
    found = admin.topic(topic)
    assert (found.name, found.partitions, found.replication) == (topic, 2, 1)
    assert found.config == {"retention.ms": "3600000"}
    assert found.messages == 5
    assert [(part.start, part.end) for part in found.details] == [(0, 3), (0, 2)]
    assert all(part.leader == 1 and part.isr == part.replicas == (1,) for part in found.details)
    assert (found.internal, found.under_replicated) == (False, 0)

    admin.alter_topic(topic, partitions=3, config={"retention.ms": None, "segment.ms": 60000})
    found = admin.topic(topic)
    assert (found.partitions, found.config) == (3, {"segment.ms": "60000"})
    assert topic in [one.name for one in admin.topics()]

    assert admin.delete_topic(topic)
    with pytest.raises(errors.TopicNotFound, match=f"topic {topic}: "):
        admin.topic(topic)
    assert topic not in [one.name for one in admin.topics()]


def test_what_is_there_already_or_not_at_all_is_an_error_unless_it_may_be(admin, topic):
    assert not admin.create_topic(topic, exist_ok=True)
    with pytest.raises(errors.TopicAlreadyExists, match="exist_ok=True") as caught:
        admin.create_topic(topic)
    assert caught.value.context == {"topic": topic}
    assert not admin.delete_topic("nobody", missing_ok=True)
    with pytest.raises(LookupError):
        admin.delete_topic("nobody")
    assert not admin.delete_group("nobody", missing_ok=True)
    with pytest.raises(errors.GroupNotFound, match="group nobody: "):
        admin.delete_group("nobody")
    with pytest.raises(errors.GroupNotFound):
        admin.group("nobody")
    with pytest.raises(errors.GroupNotFound):
        admin.reset_offsets("nobody", to="earliest")


def test_what_the_broker_refuses_tells_the_setting(admin):
    with pytest.raises(errors.KafkaError, match="INVALID_CONFIG") as caught:
        admin.create_topic("bad", config={"retention.mss": 1})
    assert caught.value.code == errors.ErrorCode.INVALID_CONFIG
    with pytest.raises(errors.KafkaError, match="INVALID_TOPIC"):
        admin.create_topic("a b")
    with pytest.raises(ValueError, match="partitions=0 is less than 1"):
        admin.create_topic("bad", partitions=0)
    with pytest.raises(ValueError, match="nothing to change"):
        admin.alter_topic("bad")
    with pytest.raises(TypeError, match="a topic is a str or a Topic"):
        admin.topic(3)


def test_typed_topics_are_taken_by_their_names(admin):
    topic = mainspring.Topic("typed", value=Utf8())
    assert admin.create_topic(topic)
    assert admin.topic(topic).name == "typed"
    assert admin.delete_topic(topic)


def test_a_group_is_described_reset_and_deleted(broker, admin, topic):
    fill(broker, topic, 10)
    read(broker, topic, "g", 10)
    group = admin.group("g")
    assert (group.state, group.members, group.total_lag) == ("Empty", (), 0)
    assert [(row.topic, row.partition, row.offset) for row in group.progress] == [
        (topic, 0, 5),
        (topic, 1, 5),
    ]
    assert "g" in [one.name for one in admin.groups()]

    plan = admin.reset_offsets("g", to="earliest", dry_run=True)
    assert [(row.partition, row.before, row.after) for row in plan] == [(0, 5, 0), (1, 5, 0)]
    assert admin.group("g").total_lag == 0, "a dry run stores nothing"
    assert admin.reset_offsets("g", to="earliest") == plan
    assert admin.group("g").total_lag == 10

    assert admin.delete_group("g")
    assert "g" not in [one.name for one in admin.groups()]


@pytest.mark.parametrize(
    ("topics", "where", "after"),
    [
        (None, {"to": "latest"}, [5, 5]),
        ("whole", {"to": 3}, [3, 3]),
        ("whole", {"to": 99}, [5, 5]),
        ("whole", {"shift": -2}, [3, 3]),
        ("one", {"to": "start"}, [0]),
        ("whole", {"to": "-1h"}, [0, 0]),
        ("whole", {"to": datetime(2100, 1, 1, tzinfo=timezone.utc)}, [5, 5]),
    ],
)
def test_a_group_goes_on_where_it_is_told(broker, admin, topics, where, after):
    topic = "resets"
    if admin.create_topic(topic, partitions=2, exist_ok=True):
        fill(broker, topic, 10)
        read(broker, topic, "resets", 10)
    named = {"whole": topic, "one": [(topic, 1)]}.get(topics)
    plan = admin.reset_offsets("resets", named, **where, dry_run=True)
    assert [row.after for row in plan] == after


def test_a_reset_that_makes_no_sense_is_refused(admin, topic):
    for arguments, expected in [
        ({}, "either to or shift"),
        ({"to": 1, "shift": 1}, "either to or shift"),
        ({"to": "yesterday"}, "is no place in a topic"),
        ({"to": -5}, "shift=-5 goes back"),
        ({"to": datetime(2026, 1, 1)}, "without a zone"),
    ]:
        with pytest.raises(ValueError, match=expected):
            admin.reset_offsets("g", topic, **arguments)
    with pytest.raises(errors.NoStoredOffset, match=f"topic {topic}, partition 0: "):
        admin.reset_offsets("fresh", topic, shift=1)
    with pytest.raises(errors.TopicNotFound, match="it has 2 partitions|has 2 partitions"):
        admin.reset_offsets("fresh", (topic, 7), to="earliest")
    with pytest.raises(TypeError, match="a partition is a TopicPartition"):
        admin.reset_offsets("fresh", [3], to="earliest")


def test_a_group_with_members_is_not_reset_and_not_deleted(broker, admin, topic):
    fill(broker, topic, 4)
    with mainspring.Consumer(
        broker.bootstrap, topics=topic, group="busy", start="earliest", client_id="till"
    ) as consumer:
        assert consumer.poll(timeout=20) is not None
        group = admin.group("busy")
        assert group.state == "Stable"
        (member,) = group.members
        assert member.client_id == "till"
        assert member.partitions == (
            mainspring.TopicPartition(topic, 0),
            mainspring.TopicPartition(topic, 1),
        )
        with pytest.raises(errors.GroupNotEmpty, match="its state is Stable"):
            admin.reset_offsets("busy", to="earliest")
        with pytest.raises(errors.GroupNotEmpty, match="stop its members first"):
            admin.delete_group("busy")


def test_the_cluster_and_its_directories_are_described(tmp_path):
    with (
        mainspring.Broker(tmp_path, node_id=3) as broker,
        mainspring.Admin(broker.bootstrap) as admin,
    ):
        cluster = admin.cluster()
        assert cluster.id == broker.cluster_id
        assert cluster.controller == 3
        (one,) = cluster.brokers
        assert f"{one.host}:{one.port}" == broker.bootstrap
        admin.create_topic("sized")
        with mainspring.Producer(broker.bootstrap) as producer:
            producer.send("sized", b"x" * 1000)
        (directory,) = admin.log_dirs()
        assert directory.broker == 3
        assert ("sized", 0) in [(log.topic, log.partition) for log in directory.logs]
        assert admin.topic("sized").bytes == sum(
            log.bytes for log in directory.logs if log.topic == "sized"
        )


def test_a_closed_admin_says_so(broker):
    admin = mainspring.Admin(broker.bootstrap)
    admin.close()
    admin.close()
    assert admin.is_closed
    with pytest.raises(errors.ClosedError, match="make another one"):
        admin.topics()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(admin)


def test_without_a_broker_an_operation_ends_at_its_time_limit():
    with (
        mainspring.Admin(
            "127.0.0.1:1", default_api_timeout_ms=300, request_timeout_ms=200
        ) as admin,
        pytest.raises(TimeoutError, match="can be reached at this address"),
    ):
        admin.topics()


def test_event_loops_have_the_same_operations(broker):
    async def main():
        async with mainspring.aio.Admin(broker.bootstrap) as admin:
            assert await admin.create_topic("loop", partitions=2)
            assert not await admin.create_topic("loop", exist_ok=True)
            await admin.alter_topic("loop", partitions=3)
            assert (await admin.topic("loop")).partitions == 3
            assert "loop" in [one.name for one in await admin.topics()]
            plan = await admin.reset_offsets("loop", "loop", to="latest")
            assert [row.after for row in plan] == [0, 0, 0]
            assert (await admin.group("loop")).state == "Empty"
            assert "loop" in [one.name for one in await admin.groups()]
            assert await admin.delete_group("loop")
            assert (await admin.cluster()).controller == 1
            assert await admin.log_dirs() is not None
            with pytest.raises(errors.TopicNotFound):
                await admin.topic("nobody")
            assert await admin.delete_topic("loop")
        with pytest.raises(errors.ClosedError):
            await admin.topics()

    asyncio.run(main())


def test_a_cancelled_wait_ends_at_once_and_harms_nothing(broker):
    async def main():
        async with mainspring.aio.Admin("127.0.0.1:1") as nowhere:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await nowhere.topics()
        async with mainspring.aio.Admin(broker.bootstrap) as admin:
            task = asyncio.create_task(admin.create_topic("cancelled"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(20):
                while "cancelled" not in [one.name for one in await admin.topics()]:
                    pass
            await admin.delete_topic("cancelled")

    asyncio.run(main())


FORKED = """
import os, sys
import mainspring

admin = mainspring.Admin(sys.argv[1])
assert admin.cluster().controller == 1
child = os.fork()
if child == 0:
    try:
        admin.topics()
    except mainspring.ForkedClientError as error:
        assert "make a Admin in the child" in str(error), error
        admin.close()
        with mainspring.Admin(sys.argv[1]) as own:
            os._exit(0 if own.cluster().controller == 1 else 2)
    os._exit(1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert admin.cluster().controller == 1
print("left open")
"""


def test_after_a_fork_the_child_needs_its_own_and_the_end_of_the_program_closes_it(broker):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FORKED, broker.bootstrap]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "left open\n"), ended.stderr
    assert ended.stderr == ""


def test_both_administrators_take_the_same_arguments():
    public = [name for name in vars(mainspring.Admin) if not name.startswith("_")]
    assert public == [name for name in vars(mainspring.aio.Admin) if not name.startswith("_")]
    for name in public:
        sync = inspect.signature(getattr(mainspring.Admin, name))
        looped = inspect.signature(getattr(mainspring.aio.Admin, name))
        assert sync == looped, name
