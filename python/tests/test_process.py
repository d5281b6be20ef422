"""What signals, forks, threads, event loops and the end of the interpreter do to clients."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import queue
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import mainspring
import mainspring.aio
import pytest
from mainspring.aio._loop import bridge


@pytest.fixture(scope="module")
def broker() -> Iterator[mainspring.Broker]:
    with mainspring.Broker() as broker:
        yield broker


def run(code: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


BLOCKING = {
    "admin": "mainspring.Admin(nowhere).topics()",
    "poll": "mainspring.Consumer(a, topics='t', start='latest').poll()",
    "iteration": "[m for m in mainspring.Consumer(a, topics='t', start='latest')]",
    "batches": "next(mainspring.Consumer(a, topics='t', start='latest').batches())",
    "group": "mainspring.Consumer(nowhere, topics='t', group='g').poll()",
    "topics": "mainspring.Consumer(nowhere, topics='t')",
    "result": "mainspring.Producer(nowhere).send('t', b'').result()",
    "exception": "mainspring.Producer(nowhere).send('t', b'').exception()",
    "flush": "(p := mainspring.Producer(nowhere)).send('t', b''); p.flush()",
    "close": "(p := mainspring.Producer(nowhere)).send('t', b''); p.close()",
    "room": "p = mainspring.Producer(nowhere, buffer_memory=50000)\nwhile True: p.send('t', bytes(9000))",
    "send_many": "mainspring.Producer(nowhere, buffer_memory=50000).send_many('t', [bytes(9000)] * 99)",
    "commit": "mainspring.Consumer(nowhere, group='g', auto_commit=False).commit({('t', 0): 1})",
    "committed": "mainspring.Consumer(nowhere, group='g').committed([('t', 0)])",
}


@pytest.mark.parametrize("what", BLOCKING)
def test_ctrl_c_ends_every_blocking_call_at_once(what, broker):
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send("t", b"").result(10)
    code = f"""
        import os, signal, sys, threading, time
        import mainspring
        a, nowhere = sys.argv[1], "127.0.0.1:1"
        sent = []
        def interrupt():
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.3, interrupt).start()
        try:
{textwrap.indent(BLOCKING[what], " " * 12)}
        except KeyboardInterrupt:
            print(time.monotonic() - sent[0])
            sys.stdout.flush()
            os._exit(0)
        """
    ended = run(code, broker.bootstrap)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 2.0


def test_a_busy_thread_stalls_neither_sends_nor_heartbeats(broker):
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        with mainspring.Producer(broker.bootstrap) as producer:
            assert producer.send("busy", b"1").result(10).offset == 0
    finally:
        stop.set()
        thread.join()


def test_stop_ends_an_iteration_from_another_thread(broker):
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send("stop", b"").result(10)
    for read in (list, lambda consumer: list(consumer.batches())):
        consumer = mainspring.Consumer(broker.bootstrap, topics="stop", start="latest")
        threading.Timer(0.1, consumer.stop).start()
        assert read(consumer) == []
        consumer.close()


def test_a_callback_is_called_once_with_its_delivery(broker):
    called = threading.Event()
    seen = []

    def callback(delivery: mainspring.Delivery) -> None:
        seen.append((delivery, threading.current_thread().name))
        called.set()

    with mainspring.Producer(broker.bootstrap) as producer:
        delivery = producer.send("callbacks", b"")
        delivery.add_done_callback(callback)
        assert called.wait(10)
        assert delivery.exception() is None
    assert seen == [(delivery, "mainspring-callbacks")]


breakable = pytest.mark.skipif(
    not hasattr(mainspring.Producer, "_break_down"), reason="only a build with assertions fails on purpose"
)


@breakable
def test_a_panic_in_the_background_reaches_every_thread_that_waits():
    nowhere = "127.0.0.1:1"
    producer = mainspring.Producer(nowhere, linger_ms=60_000)
    consumer = mainspring.Consumer(nowhere, topics="t", group="g")
    admin = mainspring.Admin(nowhere)
    delivery = producer.send("t", b"")
    called = threading.Event()
    delivery.add_done_callback(lambda _: called.set())
    waits = {
        "result": delivery.result,
        "flush": producer.flush,
        "poll": consumer.poll,
        "batches": lambda: next(consumer.batches()),
        "topics": admin.topics,
    }
    with ThreadPoolExecutor(len(waits)) as threads:
        waiting = {name: threads.submit(wait) for name, wait in waits.items()}
        for client in (producer, consumer, admin._native_admin):
            client._break_down()
        for name, future in waiting.items():
            assert isinstance(future.exception(20), mainspring.errors.InternalError), name
    assert called.wait(20)
    assert isinstance(delivery.exception(), mainspring.errors.InternalError)
    for later in (producer.flush, producer.close, lambda: producer.send("t", b""), consumer.poll):
        with pytest.raises(mainspring.errors.InternalError, match="panicked.*make another client"):
            later()


@breakable
def test_a_panic_in_the_background_reaches_every_coroutine_that_waits():
    async def work() -> list[object]:
        nowhere = "127.0.0.1:1"
        producer = mainspring.aio.Producer(nowhere, linger_ms=60_000)
        consumer = mainspring.aio.Consumer(nowhere, topics="t", group="g")
        admin = mainspring.aio.Admin(nowhere)
        waiting = asyncio.gather(
            _result(producer.send("t", b"")),
            producer.flush(),
            consumer.poll(),
            admin.topics(),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        for client in (producer, consumer, admin._native_admin):
            client._break_down()
        async with asyncio.timeout(20):
            early = await waiting
            return early + await asyncio.gather(
                producer.flush(), producer.close(), consumer.poll(), return_exceptions=True
            )

    async def _result(delivery: mainspring.Delivery) -> object:
        return await delivery

    for outcome in asyncio.run(work()):
        assert isinstance(outcome, mainspring.errors.InternalError), outcome


def forked(work) -> str:
    """Runs `work` in a forked child and returns what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            said = str(work())
        except BaseException as problem:
            said = f"{type(problem).__name__}: {problem}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_client_made_before_a_fork_says_so_in_the_child_and_works_in_the_parent(broker):
    producer = mainspring.Producer(broker.bootstrap)
    producer.send("fork", b"parent").result(10)
    consumer = mainspring.Consumer(broker.bootstrap, topics="fork", start="earliest")
    assert next(consumer).value == b"parent"

    assert "ForkedClientError: this producer" in forked(lambda: producer.send("fork", b"")).replace(
        "Producer was", "producer was"
    )
    assert "after the fork" in forked(lambda: producer.flush())
    assert "ForkedClientError" in forked(lambda: consumer.poll(1))
    assert "another process" in forked(lambda: repr(producer))

    assert producer.send("fork", b"again").result(10).offset == 1
    assert next(consumer).value == b"again"
    producer.close()
    consumer.close()


def test_a_forked_child_makes_clients_of_its_own(broker):
    bootstrap = broker.bootstrap
    with mainspring.Producer(bootstrap) as producer:
        producer.send("own", b"parent").result(10)

        def work() -> object:
            with mainspring.Producer(bootstrap) as own:
                return own.send("own", b"child").result(10).offset

        assert forked(work) == "1"
        assert producer.send("own", b"parent").result(10).offset == 2


def worker(bootstrap: str, results) -> None:
    with mainspring.Producer(bootstrap) as producer:
        results.put(producer.send("pool", b"").result(10).offset)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_make_their_own_clients(broker, method):
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send(f"pool-{method}", b"").result(10)
        context = multiprocessing.get_context(method)
        results = context.Queue()
        processes = [
            context.Process(target=worker, args=(broker.bootstrap, results)) for _ in range(3)
        ]
        for process in processes:
            process.start()
        offsets = [results.get(timeout=30) for _ in processes]
        for process in processes:
            process.join(30)
        assert len(set(offsets)) == 3


def test_a_loop_that_is_closed_with_sends_on_their_way_disturbs_nobody(broker):
    async def begin() -> None:
        producer = mainspring.aio.Producer(broker.bootstrap, linger_ms=50)
        keep.append(producer)
        waiting = asyncio.ensure_future(_awaited(producer.send("closed", b"1")))
        await asyncio.sleep(0)
        waiting.cancel()

    async def _awaited(delivery: mainspring.Delivery) -> None:
        await delivery

    keep: list[mainspring.aio.Producer] = []
    asyncio.run(begin())
    asyncio.run(keep[0].close())
    with mainspring.Consumer(broker.bootstrap, topics="closed", start="earliest") as consumer:
        assert next(consumer).value == b"1"


def test_two_loops_in_two_threads_share_a_producer(broker):
    producer = mainspring.aio.Producer(broker.bootstrap)
    offsets: list[int | None] = []

    async def work() -> None:
        for _ in range(50):
            offsets.append((await producer.send("loops", b"")).offset)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(producer.close())
    assert sorted(offset or 0 for offset in offsets) == list(range(100))


def test_a_long_send_many_gives_other_coroutines_their_turn(broker):
    async def work() -> int:
        turns, is_over = 0, False

        async def other() -> None:
            nonlocal turns
            while not is_over:
                turns += 1
                await asyncio.sleep(0)

        async with mainspring.aio.Producer(broker.bootstrap) as producer:
            others = asyncio.create_task(other())
            assert await producer.send_many("turns", [b"x"] * 100_000) == 100_000
            is_over = True
            await others
        return turns

    assert asyncio.run(work()) > 5


@pytest.mark.parametrize("way", ["messages", "batches"])
def test_an_iterator_goes_on_behind_a_wait_that_was_cancelled(broker, way):
    topic = f"goes-on-{way}"

    async def main() -> list[bytes]:
        async with mainspring.aio.Producer(broker.bootstrap) as producer:
            await producer.send(topic, b"0")
            async with mainspring.aio.Consumer(
                broker.bootstrap, topics=topic, start="earliest"
            ) as consumer:
                if way == "messages":
                    messages = aiter(consumer)
                    values = [(await anext(messages)).value]
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(messages), 0.1)
                    await producer.send(topic, b"1")
                    return [*values, (await anext(messages)).value]
                batches = consumer.batches(max_records=2, max_wait=60)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(batches), 0.3)
                await producer.send(topic, b"1")
                return (await anext(batches)).values()

    assert asyncio.run(main()) == [b"0", b"1"]


def test_many_records_whose_sending_is_cancelled_say_how_many_were_taken():
    async def main() -> None:
        producer = mainspring.aio.Producer("127.0.0.1:1", buffer_memory=40_000)
        sending = asyncio.create_task(producer.send_many("t", [bytes(1000)] * 100))
        while not producer.pending:
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
        assert f"{producer.pending} of 100 records" in caught.value.__notes__[0]
        with pytest.raises(mainspring.FlushTimeout):
            await producer.close(0)

    asyncio.run(main())


def test_a_cancelled_wait_loses_no_message(broker):
    async def work() -> list[bytes | None]:
        async with mainspring.aio.Producer(broker.bootstrap) as producer:
            await producer.send("cancel", b"0")
            seen = []
            async with mainspring.aio.Consumer(
                broker.bootstrap, topics="cancel", start="earliest"
            ) as consumer:
                for number in range(1, 20):
                    try:
                        async with asyncio.timeout(0.002):
                            message = await consumer.poll()
                    except TimeoutError:
                        pass
                    else:
                        seen.append(message.value)
                    await producer.send("cancel", b"%d" % number)
                while len(seen) < 20:
                    message = await consumer.poll(10)
                    seen.append(message.value)
            return seen

    assert asyncio.run(work()) == [b"%d" % number for number in range(20)]


def test_a_consumer_that_waits_for_long_gathers_nothing(broker):
    async def work() -> int:
        async with mainspring.aio.Producer(broker.bootstrap) as producer:
            await producer.send("idle", b"")
        async with mainspring.aio.Consumer(broker.bootstrap, topics="idle") as consumer:
            for _ in range(100):
                assert await consumer.poll(0.001) is None
            return len(bridge(asyncio.get_running_loop()))

    # One for the question, and one for the end.
    assert asyncio.run(work()) <= 2


def test_stop_ends_a_wait_in_an_event_loop_at_once_and_without_looking_for_it(broker):
    async def work() -> int:
        wakes = 0
        async with mainspring.aio.Consumer(broker.bootstrap, topics="idle") as consumer:
            # Whatever a first wait has to make is made.
            assert await consumer.poll(timeout=0.5) is None
            waits = asyncio.ensure_future(consumer.poll())
            loop = asyncio.get_running_loop()
            select = loop._selector.select

            def counted(timeout: float | None = None) -> object:
                nonlocal wakes
                wakes += 1
                return select(timeout)

            loop._selector.select = counted
            threading.Timer(1, consumer.stop).start()
            assert await waits is None
            return wakes

    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send("idle", b"").result(10)
    # Those of the end; whoever looks for it now and then wakes each time.
    assert asyncio.run(work()) < 10


def test_uvloop_works_as_well(broker):
    uvloop = pytest.importorskip("uvloop")

    async def work() -> int | None:
        async with mainspring.aio.Producer(broker.bootstrap) as producer:
            deliveries = [producer.send("uvloop", b"") for _ in range(100)]
            return (await asyncio.gather(*deliveries))[-1].offset

    assert uvloop.run(work()) == 99


def test_what_was_sent_is_delivered_when_the_interpreter_ends(broker):
    code = """
        import sys, mainspring
        producer = mainspring.Producer(sys.argv[1], linger_ms=1000)
        consumer = mainspring.Consumer(sys.argv[1], topics="exit", group="exit", start="earliest")
        for number in range(100):
            producer.send("exit", b"%d" % number)
        """
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send("exit", b"").result(10)
    ended = run(code, broker.bootstrap)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    with mainspring.Consumer(broker.bootstrap, topics="exit", start="earliest") as consumer:
        assert len(next(consumer.batches(max_records=101, max_wait=5))) == 101


def test_the_end_of_the_interpreter_waits_for_what_nobody_holds_any_more():
    with mainspring.Broker() as broker:
        code = f"""
            import mainspring
            def send():
                producer = mainspring.Producer({broker.bootstrap!r}, linger_ms=100)
                producer.send_many("dropped", [b"x"] * 1000)
            send()
            """
        ended = run(code)
        assert (ended.returncode, ended.stderr) == (0, "")
        with mainspring.Consumer(broker.bootstrap, topics="dropped", start="earliest") as consumer:
            assert len(next(consumer.batches(max_records=1000, max_wait=5))) == 1000


def test_the_end_of_the_interpreter_waits_once_for_all_clients():
    code = """
        import mainspring
        clients = [mainspring.Producer("127.0.0.1:1") for _ in range(4)]
        for client in clients:
            client.send("t", b"")
        """
    begun = time.monotonic()
    ended = run(code)
    assert ended.returncode == 0
    *outages, last = ended.stderr.splitlines()
    assert all("cannot be reached" in line for line in outages), ended.stderr
    assert "ended before 4 of its records were acknowledged" in last
    assert time.monotonic() - begun < 15


def test_clients_refuse_to_be_pickled_and_say_what_to_send(broker):
    with mainspring.Producer(broker.bootstrap) as producer:
        producer.send("pickle", b"").result(10)
        with pytest.raises(TypeError, match="in the other process"):
            pickle.dumps(producer)
    with mainspring.Consumer(broker.bootstrap, topics="pickle", start="earliest") as consumer:
        message = next(consumer)
        with pytest.raises(TypeError, match="in the other process"):
            pickle.dumps(consumer)
        with pytest.raises(TypeError, match="its value"):
            pickle.dumps(message)


def test_memory_is_flat_over_a_million_messages(broker):
    payload = bytes(100)
    with mainspring.Producer(broker.bootstrap) as producer:

        def send(count: int) -> None:
            for _ in range(count // 10_000):
                producer.send_many("million", [payload] * 10_000)
            producer.flush(60)

        send(100_000)
        with mainspring.Consumer(broker.bootstrap, topics="million", start="earliest") as consumer:
            seen = 0

            def read(until: int) -> None:
                nonlocal seen
                for batch in consumer.batches(max_records=5000):
                    seen += len(batch.values())
                    if seen >= until:
                        return

            read(100_000)
            assert seen == 100_000


def kib() -> int:
    """What this process holds of memory at present."""
    gc.collect()
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * resource.getpagesize() // 1024


def test_calls_that_fail_leave_nothing_behind():
    value, key = bytes(1024), b"key"
    headers = {f"h{number}": bytes(100) for number in range(5)}
    producer = mainspring.Producer("127.0.0.1:1", buffer_memory=100_000, max_block_ms=0)
    with pytest.raises(mainspring.BufferFull):
        while True:
            producer.send("t", value, key, headers=headers)
    closed = mainspring.Producer("127.0.0.1:1")
    closed.close()
    view = bytearray(100)

    def failures(count: int) -> None:
        for _ in range(count):
            with pytest.raises(mainspring.BufferFull):
                producer.send("t", value, key, headers=headers)
            with pytest.raises(mainspring.ClosedError):
                closed.send("t", value, key, headers=headers)
            with pytest.raises(TypeError):
                producer.send("t", value, key, headers={"a": 3})
            with pytest.raises(mainspring.MessageTooLarge):
                producer.send("t", memoryview(view), key, headers={"a": bytes(200_000)})
            with pytest.raises(TypeError):
                producer.send_many("t", [*[value] * 5, "text"])

    failures(500)
    references = [sys.getrefcount(thing) for thing in (value, key, headers, headers["h0"])]
    before = kib()
    failures(5000)
    assert kib() - before < 2048
    assert references == [sys.getrefcount(thing) for thing in (value, key, headers, headers["h0"])]
    view.extend(b"no view of it is left")
    with pytest.raises(mainspring.FlushTimeout):
        producer.close(0)


def test_a_consumer_goes_on_by_itself_after_the_broker_was_killed(tmp_path):
    first = mainspring.Broker.spawn(tmp_path)
    port = int(first.bootstrap.rsplit(":")[-1])
    producer = mainspring.Producer(first.bootstrap)
    consumer = mainspring.Consumer(
        first.bootstrap, topics="kill", group="kill", start="earliest", auto_commit=False
    )
    acknowledged = [producer.send("kill", b"%d" % number).result(20).offset for number in range(10)]
    seen = [next(consumer).offset for _ in range(10)]
    consumer.commit()
    first.kill()
    late = [producer.send("kill", b"%d" % number) for number in range(10, 20)]
    assert consumer.poll(0.2) is None
    with mainspring.Broker.spawn(tmp_path, port=port):
        acknowledged += [delivery.result(30).offset for delivery in late]
        seen += [next(consumer).offset for _ in range(10)]
        consumer.commit()
        assert acknowledged == seen == list(range(20))
        consumer.close()
        producer.close()


def test_an_outage_is_told_once_in_the_log_and_its_end_once(tmp_path):
    first = mainspring.Broker.spawn(tmp_path)
    port = int(first.bootstrap.rsplit(":")[-1])
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(told)
    # Clients of other tests may tell of their brokers.
    handler.addFilter(lambda record: f":{port} " in record.getMessage())
    log = logging.getLogger("mainspring")
    log.addHandler(handler)
    try:
        with mainspring.Producer(first.bootstrap) as producer:
            producer.send("log", b"").result(20)
            first.kill()
            late = producer.send("log", b"")
            lost = told.get(timeout=20)
            # Many attempts lie in between.
            with pytest.raises(mainspring.OperationTimeout):
                late.result(1)
            with mainspring.Broker.spawn(tmp_path, port=port):
                late.result(30)
                back = told.get(timeout=20)
    finally:
        log.removeHandler(handler)
    assert "cannot be reached" in lost.getMessage()
    assert lost.levelno == back.levelno == logging.WARNING
    assert "is back" in back.getMessage()


def test_a_position_that_is_gone_with_its_log_is_told_in_the_log():
    first = mainspring.Broker.spawn()
    port = int(first.bootstrap.rsplit(":")[-1])
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(told)
    handler.addFilter(lambda record: "log of emptied-0" in record.getMessage())
    log = logging.getLogger("mainspring")
    log.addHandler(handler)
    try:
        with mainspring.Producer(first.bootstrap) as producer:
            producer.send_many("emptied", [b"1", b"2"])
        consumer = mainspring.Consumer(first.bootstrap, topics="emptied", start="earliest")
        assert [next(iter(consumer)).value, next(iter(consumer)).value] == [b"1", b"2"]
        first.kill()
        with mainspring.Broker.spawn(port=port):
            with mainspring.Producer(first.bootstrap) as producer:
                producer.send("emptied", b"3").result(20)
            assert next(iter(consumer)).value == b"3"
            warning = told.get(timeout=20)
        consumer.close()
    finally:
        log.removeHandler(handler)
    expected = "offset 2 is not in the log of emptied-0; going on at its start"
    assert warning.getMessage() == expected
    assert warning.levelno == logging.WARNING
    assert told.empty()


def test_stop_and_close_are_bounded_while_the_broker_hangs(tmp_path):
    with mainspring.Broker.spawn(tmp_path) as broker:
        producer = mainspring.Producer(broker.bootstrap)
        producer.send("hang", b"").result(20)
        consumer = mainspring.Consumer(
            broker.bootstrap, topics="hang", group="hang", start="earliest"
        )
        assert next(consumer).value == b""
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            producer.send("hang", b"1")
            begun = time.monotonic()
            consumer.close(timeout=0.5)
            with pytest.raises(mainspring.FlushTimeout):
                producer.close(timeout=0.5)
            assert time.monotonic() - begun < 20
        finally:
            os.kill(broker.pid, signal.SIGCONT)


def test_kills_under_a_producer_and_a_group_lose_and_double_nothing(tmp_path):
    broker = mainspring.Broker.spawn(tmp_path, settings={"num.partitions": 4})
    bootstrap = broker.bootstrap
    port = int(bootstrap.rsplit(":")[-1])
    total = 3000
    done = threading.Event()
    seen: dict[tuple[int, int], bytes | None] = {}
    lock = threading.Lock()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            with mainspring.Consumer(
                bootstrap, topics="kills", group="kills", start="earliest", session_timeout_ms=6000
            ) as consumer:
                while not done.is_set():
                    message = consumer.poll(0.1)
                    if message is not None:
                        with lock:
                            seen[message.partition, message.offset] = message.value
                            if len(set(seen.values())) >= total:
                                done.set()
        except BaseException as problem:
            failures.append(problem)
            done.set()

    producer = mainspring.Producer(bootstrap)
    producer.send("kills", b"0").result(20)
    members = [threading.Thread(target=read) for _ in range(3)]
    for member in members:
        member.start()
    deliveries = []
    for number in range(1, total):
        deliveries.append(producer.send("kills", b"%d" % number, key=b"%d" % (number % 50)))
        if number % 1000 == 0:
            deliveries[-1].result(30)
            broker.kill()
            broker = mainspring.Broker.spawn(tmp_path, port=port)
    places = [delivery.result(60) for delivery in deliveries]
    assert done.wait(60), f"{len(seen)} of {total}"
    for member in members:
        member.join()
    producer.close()
    broker.stop()
    assert failures == []
    assert len({(place.partition, place.offset) for place in places}) == total - 1
    assert sorted(int(value or b"") for value in seen.values()) == list(range(total))
    for number, place in enumerate(places, start=1):
        assert seen[place.partition, place.offset or 0] == b"%d" % number
