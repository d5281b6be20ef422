"""A broker in this process, or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from mainspring import _native
from mainspring.errors import BrokerFailed, OperationTimeout

if TYPE_CHECKING:
    from mainspring._consumer import Consumer
    from mainspring._producer import Producer
    from mainspring._topic import Topic

__all__ = ["Broker", "SpawnedBroker"]

Setting = str | int | bool
K = TypeVar("K")
V = TypeVar("V")


class _Reached(ABC):
    """A broker that clients can be opened for."""

    @property
    @abstractmethod
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`."""

    def producer(self, **settings: Any) -> Producer:
        """Opens a producer for this broker; the arguments are those of `Producer`.

        >>> with Broker() as broker, broker.producer(linger_ms=0) as producer:
        ...     producer.send("orders", b"1").result(timeout=10).offset
        0
        """
        from mainspring._producer import Producer

        return Producer(self.bootstrap, **settings)

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

        return Consumer(self.bootstrap, topics=topics, **options)


class Broker(_Reached):
    """A Mainspring broker in this process, serving clients when the constructor returns.

    It is the broker that the command `serve` runs, with real sockets, on threads of its own that never
    take the interpreter's lock: any Kafka client may connect, from here or from elsewhere on the
    machine. Members of a group are not kept waiting for others (`group.initial.rebalance.delay.ms`
    is 0) unless the settings say otherwise.

    Args:
        data_dir: Where everything is kept; made if it is missing. Without it the broker lives in
            memory, opens no file, and its data ends with it.
        host: The address to listen on, which clients are told as well.
        port: The port to listen on; 0 asks the system for a free one.
        node_id: The broker's number, 0 to 2147483647.
        settings: Broker settings by Kafka's names, such as `{"num.partitions": 3}`.

    Raises:
        ConfigError: A setting is unknown, out of its bounds or not supported.
        BrokerFailed: The broker cannot serve: the port or the directory is in use, or the directory
            is damaged.

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
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        given = {**_EMBEDDED, **(settings or {})}
        texts = [(key, _text(value)) for key, value in given.items()]
        self._native = _native.Broker(data_dir, host, port, node_id, texts)

    @classmethod
    def spawn(
        cls,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, Setting] | None = None,
    ) -> SpawnedBroker:
        """Starts a broker in a process of its own: for load tests, for programs that hold the
        interpreter for long, and to be killed.

        >>> with Broker.spawn() as broker:
        ...     broker.is_running
        True
        """
        return SpawnedBroker(data_dir, host=host, port=port, settings=settings)

    @property
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`."""
        return self._native.bootstrap

    @property
    def cluster_id(self) -> str:
        """The id of the cluster that it is; a data directory keeps it."""
        return self._native.cluster_id

    @property
    def is_running(self) -> bool:
        """Whether it serves clients."""
        return self._native.is_running

    def stop(self, timeout: float = 10.0) -> None:
        """Stops it. Everything acknowledged is durable then. Stopping it again does nothing.

        Args:
            timeout: Most seconds to wait.

        Raises:
            OperationTimeout: It took longer; nothing acknowledged is lost.
            BrokerFailed: It had ended by itself, for the reason that is given.
        """
        self._native.stop(timeout)

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
        state = self.bootstrap if self.is_running else "stopped"
        return f"<mainspring.Broker {state}>"

    def __reduce__(self) -> str:
        message = "a Broker cannot be pickled; send its `bootstrap` to the other process instead"
        raise TypeError(message)


class SpawnedBroker(_Reached):
    """A broker in a process of its own, made by `Broker.spawn`. It ends with its `with` block."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        where = ["--memory"] if data_dir is None else ["--data-dir", os.fspath(data_dir)]
        command = [sys.executable, "-m", "mainspring", "serve", *where]
        command += ["--listen", f"{host}:{port}", "--console", "off"]
        for key, value in {**_EMBEDDED, **(settings or {})}.items():
            command += ["--set", f"{key}={_text(value)}"]
        # A pipe that nobody reads would stop the broker once it is full.
        with tempfile.TemporaryFile("w+") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
            )
            assert self._process.stdout is not None
            with self._process.stdout as output:
                line = output.readline()
            if not line:
                code = self._process.wait()
                said.seek(0)
                raise BrokerFailed(said.read().strip() or f"it ended with {code}")
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


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
