"""A broker in this process, or in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from mainspring import _native
from mainspring._client import _processes
from mainspring.errors import BrokerFailed, ClosedError, ConfigError, OperationTimeout

if TYPE_CHECKING:
    from mainspring._consumer import Consumer
    from mainspring._producer import Producer
    from mainspring._topic import Topic

__all__ = ["Broker", "NodeInfo", "SpawnedBroker"]

Setting = str | int | bool
K = TypeVar("K")
V = TypeVar("V")


class _Reached(ABC):
    """A broker that clients can be opened for."""

    @property
    @abstractmethod
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`."""

    def _reached(self) -> str:
        """The same, unless it will never be reached again."""
        return self.bootstrap

    def producer(self, **settings: Any) -> Producer:
        """Opens a producer for this broker; the arguments are those of `Producer`.

        >>> with Broker() as broker, broker.producer(linger_ms=0) as producer:
        ...     producer.send("orders", b"1").result(timeout=10).offset
        0
        """
        from mainspring._producer import Producer

        return Producer(self._reached(), **settings)

    @overload
    def consumer(
        self, topics: str | Iterable[str] | None = None, **options: Any
    ) -> Consumer[bytes, bytes]: ...
    @overload
    def consumer(
        self, topics: Topic[K, V] | Iterable[Topic[K, V]], **options: Any
    ) -> Consumer[K, V]: ...
    def consumer(self, topics: Any = None, **options: Any) -> Consumer[Any, Any]:
        """Opens a consumer for this broker; the arguments are those of `Consumer`.

        >>> with Broker() as broker:
        ...     with broker.producer() as producer:
        ...         _ = producer.send("orders", b"1")
        ...     with broker.consumer("orders", start="earliest") as consumer:
        ...         next(consumer).value
        b'1'
        """
        from mainspring._consumer import Consumer

        return Consumer(self._reached(), topics=topics, **options)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node of a broker."""

    id: int
    """Its number."""
    address: str
    """Where clients reach it, `HOST:PORT`; it stays the same over restarts."""
    state: Literal["starting", "running", "paused", "killed", "failed", "stopped"]
    """What it does. One that starts may wait for others: more than half of the nodes must run."""
    reason: str | None
    """Why it has failed, where it has."""


class Broker(_Reached):
    """A Mainspring broker in this process, serving clients when the constructor returns.

    It is the broker that the command `serve` runs, with real sockets, on threads of its own that never
    take the interpreter's lock: any Kafka client may connect, from here or from elsewhere on the
    machine. Members of a group are not kept waiting for others (`group.initial.rebalance.delay.ms`
    is 0) unless the settings say otherwise.

    With `nodes` it is a cluster, whose nodes reach each other by sockets on the loopback interface. Each
    may be killed, held still and started again.

    Args:
        data_dir: Where everything is kept; made if it is missing. Several nodes have a folder each in it,
            `node-1` and so on. Without it a broker of one node lives in memory, opens no file, and its data
            ends with it; several nodes keep theirs in a temporary directory that goes with the broker, since
            a node of a cluster must know after a restart what it has voted for and stored.
        host: The address to listen on, which clients are told as well.
        port: The port to listen on; 0 asks the system for a free one. Several nodes listen on this one and
            those that follow it.
        node_id: The broker's number, 0 to 2147483647. Of several nodes it is the first one's.
        nodes: How many nodes, 1 to 9. A directory is opened with as many as it was made with, or more; those
            that are new, or have lost their folder, hold replicas and do not vote.
        insecure: Whether the host may be one that other machines reach. There is neither TLS nor authentication:
            anybody who reaches it can read and write everything.
        settings: Broker settings by Kafka's names, such as `{"num.partitions": 3}`.

    Raises:
        ConfigError: A setting is unknown, out of its bounds or not supported, or the directory is one of
            more nodes, or of a broker that is alone.
        BrokerFailed: The broker cannot serve: a port or the directory is in use, or the directory
            is damaged.
        OperationTimeout: The nodes have formed no cluster within a minute.

    >>> with Broker(settings={"num.partitions": 3}) as broker:
    ...     broker.is_running
    True
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        node_id: int = 1,
        nodes: int = 1,
        insecure: bool = False,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        _check_port(port)
        _check_exposed(host, insecure)
        asked: object = nodes
        if not isinstance(asked, int) or isinstance(asked, bool):
            message = f"nodes is a number from 1 to 9, and not {asked!r}"
            raise ConfigError(message)
        self._is_stopped = False
        given = {**_EMBEDDED, **(settings or {})}
        texts = [(key, _text(value)) for key, value in given.items()]
        temporary = None
        if data_dir is None and nodes > 1:
            data_dir = temporary = tempfile.mkdtemp(prefix="mainspring-")
        try:
            self._native = _native.Broker(data_dir, host, port, node_id, nodes, texts)
        except BaseException:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        # Also at the end of a program that stops nothing.
        self._discard = (
            weakref.finalize(self, _discard, self._native, temporary, os.getpid())
            if temporary is not None
            else None
        )

    @classmethod
    def spawn(
        cls,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        insecure: bool = False,
        settings: Mapping[str, Setting] | None = None,
    ) -> SpawnedBroker:
        """Starts a broker in a process of its own: for load tests, for programs that hold the
        interpreter for long, and to be killed.

        >>> with Broker.spawn() as broker:
        ...     broker.is_running
        True
        """
        return SpawnedBroker(data_dir, host=host, port=port, insecure=insecure, settings=settings)

    @property
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`; of all nodes, whether they run or not, with commas between."""
        return self._native.bootstrap

    @property
    def cluster_id(self) -> str:
        """The id of the cluster that it is; a data directory keeps it."""
        return self._native.cluster_id

    @property
    def is_running(self) -> bool:
        """Whether it serves clients, by one node at least."""
        return self._native.is_running

    @property
    def nodes(self) -> dict[int, NodeInfo]:
        """Its nodes by their numbers, with where each is reached and what it does.

        >>> with Broker(nodes=3) as broker:
        ...     broker.kill(2)
        ...     [(node.id, node.state) for node in broker.nodes.values()]
        [(1, 'running'), (2, 'killed'), (3, 'running')]
        """
        return {row[0]: NodeInfo(*row) for row in self._native.nodes()}

    def kill(self, *nodes: int) -> None:
        """Ends nodes at once, as near to `kill -9` as one process allows.

        From this moment a node begins no operation on a file, and when this returns all its sockets are
        closed: connections are reset or end, and new ones are refused. It answers nobody, stops nothing in
        good order, and tells no other node. What it had written stays in its files, flushed or not, as after
        the death of a process; a power cut, which takes what is not flushed, is not what this is. One thing is
        softer than a signal: a write or a flush that is under way comes to its end, and is waited for.

        Args:
            nodes: Their numbers; by default all that live, those that are paused too.

        Raises:
            ConfigError: There is no such node, or it does not run; then none is killed.
            ClosedError: The broker was stopped.
        """
        self._native.kill(nodes)

    def restart(self, *nodes: int, timeout: float = 30.0) -> None:
        """Starts nodes again that were killed or have failed, and waits until they serve and the others
        know it. Each has its address, its number and its directory again; a broker in memory begins empty.

        Nodes serve while more than half of all run. Where more were killed, start as many in one call.

        Args:
            nodes: Their numbers; by default all that do not run.
            timeout: Most seconds to wait.

        Raises:
            ConfigError: There is no such node, or it runs already; then none is started.
            OperationTimeout: One does not serve yet, and goes on starting.
            BrokerFailed: One cannot serve, for the reason that is given.
            ClosedError: The broker was stopped.
        """
        self._native.restart(nodes, timeout)

    def pause(self, *nodes: int) -> None:
        """Holds nodes still, as SIGSTOP holds a process, and returns when they stand: they neither read nor
        write, and no timer of theirs fires. Their connections stay, and the system accepts new ones, which
        wait. The others take one that is silent for three seconds for dead.

        Args:
            nodes: Their numbers; by default all that run.

        Raises:
            ConfigError: There is no such node, or it is paused, or does not run; then none is paused.
            ClosedError: The broker was stopped.
        """
        self._native.pause(nodes)

    def resume(self, *nodes: int) -> None:
        """Lets nodes go on that were paused. For them too the time has passed.

        Args:
            nodes: Their numbers; by default all that are paused.

        Raises:
            ConfigError: There is no such node, or it is not paused; then none goes on.
            ClosedError: The broker was stopped.
        """
        self._native.resume(nodes)

    def stop(self, timeout: float = 10.0) -> None:
        """Stops it, with nodes that are paused. Everything acknowledged is durable then, and a temporary
        directory is removed. Stopping it again does nothing.

        Args:
            timeout: Most seconds to wait.

        Raises:
            OperationTimeout: It took longer; nothing acknowledged is lost.
            BrokerFailed: It, or a node of it, had ended by itself, for the reason that is given.
        """
        self._is_stopped = True
        self._native.stop(timeout)
        if self._discard is not None:
            self._discard()

    def _check_open(self) -> None:
        if self._is_stopped:
            message = "this broker was stopped; make another one"
            raise ClosedError(message)

    def _reached(self) -> str:
        self._check_open()
        return self.bootstrap

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.bootstrap if self.is_running else "stopped"
        return f"<mainspring.Broker {state}>"

    def __reduce__(self) -> str:
        message = "a Broker cannot be pickled; send its `bootstrap` to the other process instead"
        raise TypeError(message)


class SpawnedBroker(_Reached):
    """A broker in a process of its own, made by `Broker.spawn`. It ends with its `with` block, and at the latest with
    the program, however that ends, or once nobody holds it any more."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        insecure: bool = False,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        _check_port(port)
        _check_exposed(host, insecure)
        where = ["--memory"] if data_dir is None else ["--data-dir", os.fspath(data_dir)]
        self._command = [sys.executable, "-m", "mainspring._spawned", "serve", *where, "--console", "off"]
        if insecure:
            self._command.append("--insecure")
        for key, value in {**_EMBEDDED, **(settings or {})}.items():
            self._command += ["--set", f"{key}={_text(value)}"]
        self._start(f"{host}:{port}")

    def _start(self, listen: str) -> None:
        command = [*self._command, "--listen", listen]
        # A pipe that nobody reads would stop the broker once it is full.
        with tempfile.TemporaryFile("w+") as said:
            # It ends where its standard input does: with this process, however that ends.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )
            assert self._process.stdout is not None
            with self._process.stdout as output:
                line = output.readline()
            if not line:
                code = self._process.wait()
                _let_go(self._process)
                said.seek(0)
                raise BrokerFailed(said.read().strip() or f"it ended with {code}")
        # Also at the end of a program that stops nothing, and where nobody has it any more.
        self._ends = weakref.finalize(self, _end_process, self._process, os.getpid())
        self._ends.atexit = False
        _processes.add(self)
        ready = json.loads(line)
        self._bootstrap: str = ready["listen"]
        self._cluster_id: str = ready["cluster_id"]

    @property
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`."""
        return self._bootstrap

    @property
    def cluster_id(self) -> str:
        """The id of the cluster that it is."""
        return self._cluster_id

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it at once, as a crash would. Nothing acknowledged is lost where it has a directory."""
        self._process.kill()
        self._process.wait()
        _let_go(self._process)

    def restart(self) -> None:
        """Starts it again at its address, once it was killed or has stopped. It has its directory again; in memory it
        begins empty.

        Raises:
            ConfigError: It runs.
            BrokerFailed: It cannot serve, for the reason that is given.
        """
        if self.is_running:
            message = "the broker runs; kill() or stop() it first"
            raise ConfigError(message)
        self._start(self._bootstrap)

    def stop(self, timeout: float = 10.0) -> None:
        """Stops it in good order. Stopping it again does nothing.

        Args:
            timeout: Most seconds to wait.

        Raises:
            OperationTimeout: It took longer, and still runs.
        """
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            message = f"the broker took longer than {timeout} s to stop; kill() ends it"
            raise OperationTimeout(message) from None
        _let_go(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.bootstrap if self.is_running else "ended"
        return f"<mainspring.SpawnedBroker {state}>"


# Whoever embeds a broker starts all members of a group at once, and need not wait for late ones.
_EMBEDDED: dict[str, Setting] = {"group.initial.rebalance.delay.ms": 0}


def _discard(broker: _native.Broker, directory: str, process: int) -> None:
    """Removes the temporary directory of a cluster, once nothing writes to it; not from a forked child."""
    if os.getpid() == process:
        with suppress(ClosedError):
            broker.kill(())
        shutil.rmtree(directory, ignore_errors=True)


def _end_process(process: subprocess.Popen[str], owner: int) -> None:
    """Ends a broker that nobody will stop any more; not from a forked child."""
    if os.getpid() == owner and process.poll() is None:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _let_go(process)


def _let_go(process: subprocess.Popen[str]) -> None:
    """Closes what a process was held by that has ended."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _check_port(port: int) -> None:
    if not 0 <= port <= 65_535:
        message = f"a port is a number from 0 to 65535, and not {port}; 0 takes one that is free"
        raise ConfigError(message)


def _check_exposed(host: str, insecure: bool) -> None:
    reach = _native.reach_of_host(host)
    if reach == "nobody":
        message = (
            f"clients are told the host and cannot connect to {host}, which stands for all addresses; "
            "name one that they reach"
        )
        raise ConfigError(message)
    if insecure or reach == "machine":
        return
    message = (
        f"will not listen on {host}: without TLS and authentication anybody who reaches it could read and write "
        "everything; use a loopback address, or insecure=True if the network is trusted"
    )
    raise ConfigError(message)


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
