"""However a program leaves a message unfinished, what is stored in the group never lies behind it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import mainspring
import pytest
from clients import Aio, Sync

UNFINISHED = 3
VALUES = [b"%d" % number for number in range(10)]


@pytest.fixture(scope="module")
def broker() -> Iterator[mainspring.Broker]:
    with mainspring.Broker() as broker:
        yield broker


@pytest.fixture(params=[Sync, Aio], ids=["sync", "aio"])
def client(request: Any) -> Iterator[Any]:
    client = request.param()
    yield client
    client.close()


@pytest.fixture
def topic(request: Any, broker: mainspring.Broker) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send_many(name, VALUES)
    return name


def stored(broker: mainspring.Broker, topic: str) -> int | None:
    """What the group of the topic's name has stored."""
    with mainspring.Consumer(broker.bootstrap, group=topic) as judge:
        return judge.committed([(topic, 0)])[topic, 0]


READ = {
    "sync": """
        import gc, os, signal, sys, mainspring
        bootstrap, topic, auto_commit = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
        consumer = mainspring.Consumer(
            bootstrap, topics=topic, group=topic, start="earliest", auto_commit=auto_commit
        )
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        for message in consumer:
            if message.offset == 3:
{leave}
                break
        """,
    "aio": """
        import asyncio, gc, os, signal, sys, mainspring.aio
        bootstrap, topic, auto_commit = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
        async def main():
            consumer = mainspring.aio.Consumer(
                bootstrap, topics=topic, group=topic, start="earliest", auto_commit=auto_commit
            )
            signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
            async for message in consumer:
                if message.offset == 3:
{leave}
                    break
        asyncio.run(main())
        """,
}
# What a program does in the middle of the message, and whether it ends in good order then: what was
# processed before is stored at its end.
LEAVES = {
    "close": ("AWAITconsumer.close()", True),
    "del": ("del consumer, message; gc.collect()", False),
    "sys.exit": ("sys.exit(0)", True),
    "raise": ("raise SystemExit(0)", True),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", False),
}


@pytest.mark.parametrize("auto_commit", [False, True])
@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("kind", READ)
def test_a_program_that_leaves_has_stored_nothing_beyond(broker, topic, kind, leave, auto_commit):
    line, is_orderly = LEAVES[leave]
    line = line.replace("AWAIT", "await " if kind == "aio" else "")
    indent = " " * (20 if kind == "aio" else 16)
    code = textwrap.dedent(READ[kind].replace("{leave}", indent + line))
    command = [sys.executable, "-c", code, broker.bootstrap, topic, str(auto_commit)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == (-9 if leave == "kill" else 0), ended.stderr
    allowed = [None] if not auto_commit else [UNFINISHED] if is_orderly else [None, *range(UNFINISHED + 1)]
    assert stored(broker, topic) in allowed


def test_a_program_that_is_told_to_stop_finishes_its_message_first(broker, topic):
    # The loop body ends, then the loop does: the message counts as what its program has done.
    stop = " " * 16 + "os.kill(os.getpid(), signal.SIGTERM)"
    code = READ["sync"].replace("{leave}\n                break", stop)
    code = textwrap.dedent(code) + "consumer.close()\n"
    command = [sys.executable, "-c", code, broker.bootstrap, topic, "True"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert stored(broker, topic) in (UNFINISHED, UNFINISHED + 1)


@pytest.mark.parametrize("auto_commit", [False, True])
def test_who_takes_over_after_a_rebalance_begins_at_the_unfinished_message(
    client, broker, topic, auto_commit
):
    settings = {"topics": topic, "group": topic, "start": "earliest", "auto_commit": auto_commit}
    first = client.consumer(broker.bootstrap, **settings)
    assert [message.offset for message in first.take(UNFINISHED + 1)] == [0, 1, 2, 3]
    with client.consumer(broker.bootstrap, **settings) as second:
        # It joins while the first one is in the middle of its message.
        assert second.poll(0.3) is None
        first.close()
        assert second.take(1)[0].offset == (UNFINISHED if auto_commit else 0)


@pytest.mark.parametrize("auto_commit", [False, True])
def test_going_over_to_other_topics_stores_nothing_beyond(client, broker, topic, auto_commit):
    settings = {"topics": topic, "group": topic, "start": "earliest", "auto_commit": auto_commit}
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send(f"{topic}-other", b"other").result(20)
    with client.consumer(broker.bootstrap, **settings) as consumer:
        assert len(consumer.take(UNFINISHED + 1)) == UNFINISHED + 1
        consumer.subscribe(f"{topic}-other")
        assert consumer.take(1)[0].value == b"other"
    assert stored(broker, topic) in ([UNFINISHED] if auto_commit else [None])


@pytest.mark.parametrize("auto_commit", [False, True])
def test_nothing_of_a_batch_that_was_left_is_stored(client, broker, topic, auto_commit):
    settings = {"topics": topic, "group": topic, "start": "earliest", "auto_commit": auto_commit}
    consumer = client.consumer(broker.bootstrap, **settings)
    assert len(consumer.batch(max_records=5)) == 5
    consumer.close()
    assert stored(broker, topic) in (None, 0)
