"""Half messages and their checkers, sync and asyncio, against a broker in this process."""

import asyncio
import gc
import threading
import time

import mainspring as ms
import mainspring.aio
import pytest
from mainspring import errors

QUICK = {
    "mainspring.features": "half",
    "mainspring.half.check.after.ms": 100,
    "mainspring.half.check.interval.ms": 100,
    "mainspring.half.check.max": 2,
}


@pytest.fixture(scope="module")
def broker():
    with ms.Broker() as broker:
        yield broker


@pytest.fixture
def admin(broker):
    with ms.Admin(broker.bootstrap) as admin:
        yield admin


@pytest.fixture
def topic(admin, request):
    name = request.node.name
    admin.create_topic(name, partitions=2, config=QUICK)
    return name


def group(topic):
    return topic[:200]


def read(broker, topic, count):
    with ms.Consumer(broker.bootstrap, topics=topic, group=topic, start="earliest") as consumer:
        return [consumer.poll(timeout=20).value for _ in range(count)]


def until(admin, half, state):
    """Waits for a state of a half message. The question about a parked one is there before the state is, so that no
    event tells of it."""
    end = time.monotonic() + 20
    while (found := admin.schedule(half.schedule_id)).state != state:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def test_a_block_lets_its_half_message_out_and_an_exception_takes_it_back(broker, admin, topic):
    with ms.Producer(broker.bootstrap, producer_group=group(topic)) as producer:
        with pytest.raises(KeyError) as thrown, producer.half(topic, b"no", check_after=60) as taken_back:
            raise KeyError(1)
        assert not getattr(thrown.value, "__notes__", [])
        with producer.half(topic, b"yes", b"k", headers={"h": b"1"}, check_after=60) as let_out:
            (waits,) = admin.half_messages(topic)
            assert (waits.schedule_id, waits.state) == (let_out.schedule_id, "half")
        with producer.half(topic, b"by hand", check_after=60) as by_hand:
            by_hand.commit()
        with producer.half(topic, b"never", check_after=60) as never:
            never.rollback()
    states = [admin.schedule(half.schedule_id).state for half in (taken_back, let_out, by_hand, never)]
    assert states == ["rolled-back", "committed", "committed", "rolled-back"]
    assert sorted(read(broker, topic, 2)) == [b"by hand", b"yes"]
    assert admin.half_messages(topic) == []


def test_who_is_only_stopped_leaves_it_to_the_checker(broker, admin, topic):
    with ms.Producer(broker.bootstrap, producer_group=group(topic)) as producer:
        with pytest.raises(KeyboardInterrupt), producer.half(topic, b"x", check_after=60) as half:
            raise KeyboardInterrupt
    assert admin.schedule(half.schedule_id).state == "half"


def test_a_verdict_that_may_have_been_given_is_not_followed_by_another_one(broker, admin, topic):
    with ms.Producer(broker.bootstrap, producer_group=group(topic)) as producer:
        with pytest.raises(KeyError), producer.half(topic, b"x", check_after=60) as half:
            half.commit()
            raise KeyError(1)
    assert admin.schedule(half.schedule_id).state == "committed"


def test_a_checker_decides_for_a_sender_that_died(broker, admin, topic):
    with ms.Producer(broker.bootstrap, producer_group=group(topic)) as dies:
        with dies.half(topic, b"paid", headers={"order": b"1"}, id="one") as paid:
            paid.unknown()
        with dies.half(topic, b"unpaid", headers={"order": b"2"}, id="two") as unpaid:
            unpaid.unknown()

    asked = {}
    both = threading.Event()

    def check(half):
        asked[half.id] = half
        if len(asked) == 2:
            both.set()
        return ms.COMMIT if half.headers["order"] == b"1" else ms.ROLLBACK

    with ms.Producer(broker.bootstrap, producer_group=group(topic), checker=check):
        assert both.wait(20)
    # Closing waits for the verdict on the question at hand.
    assert [admin.schedule(half.schedule_id).state for half in (paid, unpaid)] == ["committed", "rolled-back"]
    assert asked["one"].schedule_id == paid.schedule_id
    assert (asked["two"].value, asked["two"].attempt) == (b"unpaid", 1)
    assert list(asked["two"].headers) == ["order"]
    assert read(broker, topic, 1) == [b"paid"]


def test_a_checker_that_fails_is_asked_again_until_the_message_is_parked(broker, admin, topic, caplog):
    answers = iter([None, ms.UNKNOWN])
    parked = threading.Event()

    def check(half):
        if half.is_parked:
            parked.set()
        answer = next(answers, None)
        if answer is None:
            raise OSError("no database")
        return answer

    with ms.Producer(broker.bootstrap, producer_group=group(topic), checker=check) as producer:
        with producer.half(topic, b"x") as half:
            half.unknown()
        assert parked.wait(20)
        until(admin, half, "parked")
        assert [one.schedule_id for one in admin.half_messages(topic, parked=True)] == [half.schedule_id]
    assert "the checker has failed" in caplog.text


def test_what_is_no_answer_is_said_in_the_log(broker, admin, topic, caplog):
    def check(half):
        return True if half.attempt == 1 else ms.COMMIT

    with ms.Producer(broker.bootstrap, producer_group=group(topic), checker=check) as producer:
        with producer.half(topic, b"x") as half:
            half.unknown()
        assert read(broker, topic, 1) == [b"x"]
    assert "COMMIT, ROLLBACK or UNKNOWN, and not True" in caplog.text


def test_a_checker_that_raises_what_ends_a_program_is_asked_again(broker, admin, topic, caplog):
    def check(half):
        if half.attempt == 1:
            raise SystemExit(1)
        return ms.COMMIT

    with ms.Producer(broker.bootstrap, producer_group=group(topic), checker=check) as producer:
        with producer.half(topic, b"x") as half:
            half.unknown()
        assert read(broker, topic, 1) == [b"x"]
    assert "the checker has failed" in caplog.text


def test_a_checker_whose_wait_is_cancelled_is_asked_again_and_one_that_will_not_end_holds_up_nobody(
    broker, topic
):
    async def main():
        entered = asyncio.Event()

        async def check(half):
            if half.attempt == 1:
                raise asyncio.CancelledError
            if half.attempt == 2:
                entered.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await never.wait()
            return ms.COMMIT

        never = asyncio.Event()
        producer = mainspring.aio.Producer(broker.bootstrap, producer_group=group(topic), checker=check)
        async with producer.half(topic, b"x") as half:
            half.unknown()
        async with asyncio.timeout(20):
            await entered.wait()
            await producer.close(timeout=0.2)
        never.set()

    asyncio.run(main())


def test_a_checker_ends_with_its_producer(broker):
    def checkers():
        return [thread for thread in threading.enumerate() if thread.name == "mainspring-checker"]

    with ms.Producer(broker.bootstrap, producer_group="ends", checker=lambda half: ms.UNKNOWN) as producer:
        assert len(checkers()) == 1
    assert checkers() == []
    producer = ms.Producer(broker.bootstrap, producer_group="ends", checker=lambda half: ms.UNKNOWN)
    (thread,) = checkers()
    del producer
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_wrong_use_says_what_to_do(broker, admin, topic):
    address = broker.bootstrap
    with pytest.raises(errors.ConfigError, match="producer_group"):
        ms.Producer(address, checker=lambda half: ms.COMMIT)
    with pytest.raises(TypeError, match="HalfMessage"):
        ms.Producer(address, producer_group="g", checker=5)
    for wrong in ("", "a b", "g" * 243):
        with pytest.raises(errors.ConfigError, match="1 to 242"):
            ms.Producer(address, producer_group=wrong)
    for wrong, right in (("chekcer", "checker"), ("producer_groups", "producer_group")):
        with pytest.raises(errors.ConfigError, match=f"did you mean {right}"):
            ms.Producer(address, **{wrong: "x"})
    with ms.Producer(address) as producer, pytest.raises(errors.ConfigError, match="no producer_group"):
        producer.half(topic, b"x")
    with ms.Producer(address, producer_group="g", transactional_id="t") as producer:
        with pytest.raises(errors.TransactionStateError, match="another producer"):
            producer.half(topic, b"x")
    with ms.Producer(address, producer_group="g", acks=0) as producer:
        with pytest.raises(errors.ConfigError, match="acks=0"):
            producer.half(topic, b"x")
    with ms.Producer(address, producer_group="g") as producer:
        admin.create_topic("plain", config={"mainspring.features": "schedule"})
        with pytest.raises(errors.ConfigError, match=r"schedule,half"), producer.half("plain", b"x"):
            pass
        with pytest.raises(errors.TopicNotFound), producer.half("nobody", b"x"):
            pass
        half = producer.half(topic, b"x", check_after=60)
        for call in (half.commit, half.rollback, half.unknown, lambda: half.schedule_id):
            with pytest.raises(errors.TransactionStateError, match="was not sent"):
                call()
        with half:
            half.rollback()
            with pytest.raises(errors.TransactionStateError, match="final"):
                half.commit()
        with pytest.raises(errors.TransactionStateError, match="once"), half:
            pass


def test_event_loops_have_half_messages_and_checkers(broker, topic):
    taken_back = asyncio.Event()

    async def check(half):
        if half.headers["order"] == b"2":
            taken_back.set()
            return ms.ROLLBACK
        # Questions come one at a time: this one after the verdict on the other message.
        return ms.COMMIT if taken_back.is_set() else ms.UNKNOWN

    async def main():
        async with (
            mainspring.aio.Producer(
                broker.bootstrap, producer_group=group(topic), checker=check
            ) as producer,
            mainspring.aio.Admin(broker.bootstrap) as admin,
        ):
            halves = []
            for order in (b"2", b"1"):
                async with producer.half(topic, b"paid " + order, headers={"order": order}) as half:
                    half.unknown()
                halves.append(half)
            async with producer.half(topic, b"let out", check_after=60) as half:
                assert half.schedule_id in [one.schedule_id for one in await admin.half_messages(topic)]
            halves.append(half)
            with pytest.raises(KeyError):
                async with producer.half(topic, b"taken back", check_after=60) as half:
                    raise KeyError(1)
            halves.append(half)
            async with mainspring.aio.Consumer(
                broker.bootstrap, topics=topic, group=group(topic), start="earliest"
            ) as consumer:
                values = {(await consumer.poll(timeout=20)).value for _ in range(2)}
            assert values == {b"paid 1", b"let out"}
            states = [(await admin.schedule(half.schedule_id)).state for half in halves]
            assert states == ["rolled-back", "committed", "committed", "rolled-back"]

            entered = asyncio.Event()

            async def stopped():
                async with producer.half(topic, b"x", check_after=60) as half:
                    halves.append(half)
                    entered.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(stopped())
            async with asyncio.timeout(20):
                await entered.wait()
            task.cancel()
            await asyncio.wait([task])
            assert (await admin.schedule(halves[4].schedule_id)).state == "half"

    asyncio.run(main())
