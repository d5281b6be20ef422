"""What clients do while their broker is away, however it went, and after it is back."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mainspring
import mainspring.aio
import pytest
from clients import Aio, Sync

# A broker that answers no more is given up after this long, so that tests need not wait for long.
SETTINGS = {"request_timeout_ms": 2000}


class Killed:
    """The process ends at once, and another one takes its data and its port."""

    keeps = True

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self.broker = mainspring.Broker.spawn(folder)
        self.bootstrap = self.broker.bootstrap

    def begin(self) -> None:
        self.broker.kill()

    def end(self) -> None:
        port = int(self.bootstrap.rsplit(":")[-1])
        self.broker = mainspring.Broker.spawn(self.folder, port=port)

    def close(self) -> None:
        self.broker.kill()


class Emptied(Killed):
    """The process ends, and another one on its port has nothing of its data."""

    keeps = False

    def begin(self) -> None:
        super().begin()
        self.folder = None


class Stopped(Killed):
    """The process is stopped and goes on later: its connections stay."""

    def begin(self) -> None:
        os.kill(self.broker.pid, signal.SIGSTOP)

    def end(self) -> None:
        os.kill(self.broker.pid, signal.SIGCONT)


class Swallowed:
    """What lies between swallows everything and says nothing: connections of before never come back."""

    keeps = True

    def __init__(self, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.broker = mainspring.Broker.spawn(
            folder, settings={"advertised.listeners": f"PLAINTEXT://{self.bootstrap}"}
        )
        self.is_open = True
        self.ways: list[tuple[socket.socket, socket.socket]] = []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        host, port = self.broker.bootstrap.split(":")
        living: dict[socket.socket, socket.socket] = {}
        while not self.is_over.is_set():
            # What comes while it swallows is left where it is.
            watched = [self.listener, *living] if self.is_open else []
            if not self.is_open:
                living.clear()
            ready, _, _ = select.select(watched, [], [], 0.01)
            for one in ready:
                if one is self.listener:
                    near, _ = self.listener.accept()
                    far = socket.create_connection((host, int(port)))
                    self.ways.append((near, far))
                    living.update({near: far, far: near})
                elif one in living:
                    data = one.recv(1 << 16)
                    other = living[one]
                    if data:
                        other.sendall(data)
                        continue
                    for end in (one, other):
                        living.pop(end)
                        end.close()

    def begin(self) -> None:
        self.is_open = False

    def end(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_over.set()
        self.thread.join()
        for near, far in self.ways:
            near.close()
            far.close()
        self.listener.close()
        self.broker.kill()


@pytest.fixture(params=[Killed, Stopped, Swallowed, Emptied], ids=lambda kind: kind.__name__.lower())
def outage(request: Any, tmp_path: Path) -> Iterator[Any]:
    outage = request.param(tmp_path)
    yield outage
    outage.close()


@pytest.fixture(params=[Sync, Aio], ids=["sync", "aio"])
def client(request: Any) -> Iterator[Any]:
    client = request.param()
    yield client
    client.close()


def values(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def read(consumer: Any, count: int) -> list[bytes]:
    return [message.value for message in consumer.take(count, timeout=60)]


@pytest.mark.parametrize("group", [None, "g"])
def test_reading_and_sending_go_on_by_themselves_after_an_outage(client, outage, group):
    settings = {"topics": "t", "group": group, "start": "earliest", **SETTINGS}
    if group is not None:
        settings["session_timeout_ms"] = 6000
    producer = client.producer(outage.bootstrap, **SETTINGS)
    producer.send_many("t", values(0, 10))
    producer.flush(20)
    consumer = client.consumer(outage.bootstrap, **settings)
    assert read(consumer, 10) == values(0, 10)

    outage.begin()
    assert consumer.poll(0.5) is None
    outage.end()
    producer.send_many("t", values(10, 15))
    producer.flush(60)

    # Where its place is gone with the log, it begins anew, as the setting says.
    assert read(consumer, 5) == values(10, 15)
    if outage.keeps:
        assert consumer.poll(0.1) is None
    consumer.close()
    producer.close()


def test_stop_and_close_work_during_an_outage(client, outage):
    producer = client.producer(outage.bootstrap, **SETTINGS)
    producer.send_and_wait("t", b"0")
    reading = [
        client.consumer(outage.bootstrap, topics="t", start="earliest", **SETTINGS) for _ in range(2)
    ]
    for consumer in reading:
        assert read(consumer, 1) == [b"0"]
    grouped = client.consumer(outage.bootstrap, topics="t", group="g", start="earliest", **SETTINGS)
    assert read(grouped, 1) == [b"0"]

    outage.begin()
    threading.Timer(0.2, reading[0].stop).start()
    reading[0].each(lambda message: pytest.fail("nothing can come"))
    threading.Timer(0.2, reading[1].stop).start()
    assert reading[1].poll() is None
    producer.send("t", b"1")
    for consumer in (*reading, grouped):
        consumer.close(timeout=0.5)
    with pytest.raises(mainspring.FlushTimeout):
        producer.close(timeout=0.5)


def test_ctrl_c_ends_waiting_during_an_outage(outage):
    code = """
        import os, signal, sys, threading
        import mainspring
        consumer = mainspring.Consumer(sys.argv[1], topics="t", start="earliest")
        next(consumer)
        print("reading", flush=True)
        sys.stdin.readline()
        try:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            for message in consumer:
                pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """
    with mainspring.Producer(outage.bootstrap) as producer:
        producer.send("t", b"").result(20)
    command = [sys.executable, "-c", textwrap.dedent(code), outage.bootstrap]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        outage.begin()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(20) == 0


def test_a_client_that_tries_again_and_again_does_so_a_few_times_a_second():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tries = 0
        listener.settimeout(10)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with mainspring.Consumer(address) as consumer:
            consumer.assign([("t", 0)])
            gaps = threading.Event()
            threading.Timer(3, gaps.set).start()
            while not gaps.is_set():
                near, _ = listener.accept()
                near.close()
                tries += 1
        # 50 ms at first, doubling up to a second.
        assert tries <= 12


def nobody_listens() -> str:
    """An address at which no broker is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_what_ends_a_producers_block_is_what_its_caller_sees():
    # Who is interrupted does not wait for what can not be sent.
    with (
        pytest.raises(KeyboardInterrupt) as interrupted,
        mainspring.Producer(nobody_listens()) as producer,
    ):
        producer.send("t", b"x")
        raise KeyboardInterrupt
    assert "1 record" in " ".join(interrupted.value.__notes__)

    async def cancelled() -> None:
        async with mainspring.aio.Producer(nobody_listens()) as producer:
            producer.send("t", b"x")
            await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.timeout(0.2):
            await cancelled()

    with pytest.raises(TimeoutError) as ended:
        asyncio.run(asyncio.wait_for(main(), 20))
    assert not isinstance(ended.value, mainspring.FlushTimeout)


def test_an_error_in_a_producers_block_is_told_with_what_was_not_sent(monkeypatch):
    producer = mainspring.Producer(nobody_listens())
    finish = producer._finish
    monkeypatch.setattr(producer, "_finish", lambda timeout: finish(min(timeout, 0.3)))
    with pytest.raises(ValueError, match="mine") as told, producer:
        producer.send("t", b"x")
        message = "mine"
        raise ValueError(message)
    assert "1 record" in " ".join(told.value.__notes__)
