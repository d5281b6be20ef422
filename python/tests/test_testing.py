"""The plugin of pytest: fixtures, helpers, and what it lives beside."""

import asyncio
import subprocess
import sys
import threading

import mainspring
import mainspring.aio
import pytest
from mainspring.serde import Json, Utf8

ONE = """
    def test_one(mainspring_broker, mainspring_topic):
        stored = mainspring_broker.produce(mainspring_topic, [b"1", b"2"])
        assert [one.offset for one in stored] == [0, 1]
        assert mainspring_broker.values(mainspring_topic) == [b"1", b"2"]
"""


def test_fixtures_give_one_broker_to_all_tests_and_a_topic_to_each(pytester):
    pytester.makepyfile(
        """
        import pytest
        seen = []

        @pytest.mark.parametrize("number", range(3))
        def test_own_topic(mainspring_broker, mainspring_topic, number):
            assert mainspring_broker.values(mainspring_topic) == []
            mainspring_broker.produce(mainspring_topic, [b"1"])
            seen.append((mainspring_broker.bootstrap, mainspring_topic))

        @pytest.mark.mainspring_topic(partitions=3, config={"retention.ms": 60000})
        def test_marked(mainspring_broker, mainspring_topic):
            found = mainspring_broker.admin.topic(mainspring_topic)
            assert (found.partitions, found.config) == (3, {"retention.ms": "60000"})

        def test_last(mainspring_broker):
            assert len({broker for broker, _ in seen}) == 1
            assert len({topic for _, topic in seen}) == 3
            assert [one.name for one in mainspring_broker.admin.topics()] == []
        """
    )
    pytester.runpytest("--strict-markers").assert_outcomes(passed=5)


@pytest.mark.parametrize("left", ["kill", "pause", "stop"])
def test_who_leaves_the_broker_of_the_run_in_ruins_fails_and_no_other(pytester, left):
    pytester.makepyfile(
        f"""
        def test_kills_and_restarts(mainspring_broker, mainspring_topic):
            mainspring_broker.kill()
            mainspring_broker.restart()

        def test_leaves_it(mainspring_broker, mainspring_topic):
            mainspring_broker.{left}()

        def test_after(mainspring_broker, mainspring_topic):
            mainspring_broker.produce(mainspring_topic, [b"1"])
        """
    )
    outcome = pytester.runpytest()
    outcome.stdout.fnmatch_lines(["*the test has left the broker of the test run *"])
    if left == "stop":
        # Nothing brings it back; that is said at once.
        outcome.stdout.fnmatch_lines(["*this broker was stopped; make another one*"])
    else:
        outcome.assert_outcomes(passed=3, errors=1)


def test_a_marker_that_is_not_understood_is_refused(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.mainspring_topic(3)
        def test_by_place(mainspring_topic):
            pass

        @pytest.mark.mainspring_topic(partition=3)
        def test_by_another_name(mainspring_topic):
            pass
        """
    )
    outcome = pytester.runpytest()
    outcome.assert_outcomes(errors=2)
    outcome.stdout.fnmatch_lines(["*takes partitions and config, by name*"])


def test_a_cluster_is_the_tests_own_and_made_as_the_marker_says(pytester):
    pytester.makepyfile(
        """
        import pytest

        def test_three(mainspring_cluster):
            topic = mainspring_cluster.new_topic()
            mainspring_cluster.produce(topic, [b"1"])
            (part,) = mainspring_cluster.admin.topic(topic).details
            assert len(part.replicas) == 3
            mainspring_cluster.kill(part.leader)
            mainspring_cluster.produce(topic, [b"2"], timeout=30)
            assert mainspring_cluster.values(topic, timeout=30) == [b"1", b"2"]

        @pytest.mark.mainspring_cluster(nodes=2, settings={"num.partitions": 4})
        def test_marked(mainspring_cluster):
            assert [node.state for node in mainspring_cluster.nodes.values()] == ["running"] * 2
            topic = mainspring_cluster.new_topic()
            assert mainspring_cluster.admin.topic(topic).partitions == 4
        """
    )
    pytester.runpytest("--strict-markers").assert_outcomes(passed=2)


def test_a_run_that_uses_no_fixture_loads_nothing_native(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "mainspring.testing" in sys.modules
            ours = [name for name in sys.modules if name.startswith("mainspring.")]
            assert ours == ["mainspring.testing"]
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_each_worker_of_xdist_has_a_broker_of_its_own(pytester):
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_one(mainspring_broker, mainspring_topic, number, worker_id):
            mainspring_broker.produce(mainspring_topic, [b"1"])
            assert mainspring_broker.values(mainspring_topic) == [b"1"]
        """
    )
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=8)


LOOPS = """
    import asyncio
    import mainspring.aio as msa
    import pytest

    {mark}
    async def test_loop(mainspring_broker, mainspring_topic):
        async with msa.Producer(mainspring_broker.bootstrap) as producer:
            await producer.send(mainspring_topic, b"1")
        found = await asyncio.to_thread(mainspring_broker.wait_for, mainspring_topic)
        assert [message.value for message in found] == [b"1"]
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_coroutines_under_pytest_asyncio_take_the_fixtures(pytester, mode):
    pytest.importorskip("pytest_asyncio")
    pytester.makepyfile(LOOPS.format(mark="@pytest.mark.asyncio" if mode == "strict" else ""))
    scope = "asyncio_default_fixture_loop_scope=function"
    run = pytester.runpytest_subprocess("-o", f"asyncio_mode={mode}", "-o", scope)
    run.assert_outcomes(passed=1)


def test_coroutines_under_anyio_take_the_fixtures(pytester):
    pytest.importorskip("anyio")
    backend = "@pytest.fixture\n    def anyio_backend():\n        return 'asyncio'\n"
    pytester.makepyfile(LOOPS.format(mark=f"{backend}\n    @pytest.mark.anyio"))
    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_history_has_all_partitions_in_the_order_of_their_offsets(mainspring_broker):
    topic = mainspring_broker.new_topic("history", partitions=3)
    for partition in (2, 0, 1):
        values = [b"%d-%d" % (partition, n) for n in range(2)]
        mainspring_broker.produce(topic, values, partition=partition)
    history = mainspring_broker.history(topic)
    assert [(one.partition, one.offset) for one in history] == [
        (partition, offset) for partition in range(3) for offset in range(2)
    ]
    assert mainspring_broker.values(topic) == [b"0-0", b"0-1", b"1-0", b"1-1", b"2-0", b"2-1"]


def test_typed_topics_are_written_and_read_by_their_types(mainspring_broker):
    topic = mainspring.Topic(mainspring_broker.new_topic(), key=Utf8(), value=Json(dict[str, int]))
    mainspring_broker.produce(topic, [("a", {"n": 1}), ("b", {"n": 2})], keyed=True)
    (found,) = mainspring_broker.wait_for(topic, where=lambda one: one.value["n"] == 2)
    assert found.key == "b"


def test_waiting_for_messages_ends_when_they_come(mainspring_broker, mainspring_topic):
    sender = threading.Thread(
        target=mainspring_broker.produce, args=(mainspring_topic, [b"a", b"bb", b"c"])
    )
    sender.start()
    found = mainspring_broker.wait_for(mainspring_topic, 2, where=lambda one: len(one.value) == 1)
    sender.join()
    assert [one.value for one in found] == [b"a", b"c"]


def test_waiting_for_messages_that_do_not_come_says_how_many_did(
    mainspring_broker, mainspring_topic
):
    mainspring_broker.produce(mainspring_topic, [b"a"])
    with pytest.raises(TimeoutError, match=r"has 1 of 2 messages after 0\.2 s"):
        mainspring_broker.wait_for(mainspring_topic, 2, timeout=0.2)
    with pytest.raises(mainspring.OperationTimeout, match="1 messages were looked at"):
        mainspring_broker.wait_for(mainspring_topic, where=lambda one: False, timeout=0.2)


def test_waiting_for_lag_ends_when_the_group_has_stored_its_offsets(
    mainspring_broker, mainspring_topic, request
):
    group = request.node.name
    mainspring_broker.produce(mainspring_topic, [b"1", b"2", b"3"])
    with pytest.raises(TimeoutError, match=f"group {group} has stored nothing"):
        mainspring_broker.wait_lag(group, mainspring_topic, timeout=0.05)
    with mainspring.Consumer(
        mainspring_broker.bootstrap, topics=mainspring_topic, group=group, start="earliest"
    ) as consumer:
        message = consumer.poll(timeout=20)
        consumer.commit(message)
        mainspring_broker.wait_lag(group, mainspring_topic, 2)
        with pytest.raises(TimeoutError, match="is 2 messages behind in"):
            mainspring_broker.wait_lag(group, mainspring_topic, timeout=0.05)
        for _ in range(2):
            assert consumer.poll(timeout=20) is not None
        committer = threading.Thread(target=consumer.commit)
        committer.start()
        mainspring_broker.wait_lag(group)
        committer.join()


def test_a_program_of_ones_own_is_tested_without_a_sleep(mainspring_broker, mainspring_topic):
    async def double(bootstrap: str, source: str, target: str, count: int) -> None:
        async with (
            mainspring.aio.Consumer(
                bootstrap, topics=source, group="double", start="earliest"
            ) as consumer,
            mainspring.aio.Producer(bootstrap) as producer,
        ):
            left = count
            async for message in consumer:
                await producer.send(target, message.value * 2)
                await consumer.commit(message)
                left -= 1
                if not left:
                    break

    target = mainspring_broker.new_topic("doubled")
    mainspring_broker.produce(mainspring_topic, [b"1", b"2"])
    asyncio.run(double(mainspring_broker.bootstrap, mainspring_topic, target, 2))
    mainspring_broker.wait_lag("double", mainspring_topic)
    assert mainspring_broker.values(target) == [b"11", b"22"]


def test_every_public_name_is_found_at_its_first_use():
    program = """
import mainspring
for name in mainspring.__all__:
    assert getattr(mainspring, name) is not None, name
    assert name in dir(mainspring)
from mainspring import *
assert Admin is mainspring.Admin and errors is mainspring.errors
try:
    mainspring.Nothing
except AttributeError as error:
    assert "has no attribute 'Nothing'" in str(error)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
