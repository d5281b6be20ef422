"""The broker of event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from mainspring import broker as _sync
from mainspring._topic import Topic
from mainspring.aio._consumer import Consumer
from mainspring.aio._producer import Producer
from mainspring.broker import NodeInfo, Setting
from mainspring.errors import ClosedError

__all__ = ["Broker", "SpawnedBroker"]

K = TypeVar("K")
V = TypeVar("V")


class _Runs(Protocol):
    """What brokers of threads have in common."""

    @property
    def bootstrap(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def is_running(self) -> bool: ...
    def _reached(self) -> str: ...
    def stop(self, timeout: float = 10.0) -> None: ...


B = TypeVar("B", bound=_Runs)


class _Started(Generic[B]):
    """A broker that is started by `async with`, or by `start`."""

    _broker: B | None = None

    def __init__(self, make: Callable[[], B]) -> None:
        self._make: Callable[[], B] = make

    @property
    def _held(self) -> B:
        if self._broker is None:
            message = "this broker is not started; use it by `async with`, or await start() first"
            raise ClosedError(message)
        return self._broker

    async def start(self) -> Self:
        """Starts it and waits until it serves clients. Starting it again does nothing.

        Raises:
            ConfigError: A setting is unknown, out of its bounds or not supported.
            BrokerFailed: It cannot serve, for the reason that is given.
        """
        if self._broker is None:
            starting = _Starting(self._make)
            try:
                self._broker = await asyncio.to_thread(starting.run)
            except asyncio.CancelledError:
                starting.give_up()
                raise
        return self

    @property
    def bootstrap(self) -> str:
        """Where clients reach it, `HOST:PORT`; of all nodes with commas between."""
        return self._held.bootstrap

    @property
    def cluster_id(self) -> str:
        """The id of the cluster that it is; a data directory keeps it."""
        return self._held.cluster_id

    @property
    def is_running(self) -> bool:
        """Whether it serves clients."""
        return self._broker is not None and self._broker.is_running

    def producer(self, **settings: Any) -> Producer:
        """Opens a producer for this broker; the arguments are those of `Producer`."""
        return Producer(self._held._reached(), **settings)

    @overload
    def consumer(
        self, topics: str | Iterable[str] | None = None, **options: Any
    ) -> Consumer[bytes, bytes]: ...
    @overload
    def consumer(
        self, topics: Topic[K, V] | Iterable[Topic[K, V]], **options: Any
    ) -> Consumer[K, V]: ...
    def consumer(self, topics: Any = None, **options: Any) -> Consumer[Any, Any]:
        """Opens a consumer for this broker; the arguments are those of `Consumer`."""
        return Consumer(self._held._reached(), topics=topics, **options)

    async def stop(self, timeout: float = 10.0) -> None:
        """Stops it, as `mainspring.Broker.stop`. Stopping it again does nothing."""
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop, timeout)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = self.bootstrap if self.is_running else "not running"
        return f"<mainspring.aio.{type(self).__name__} {state}>"


class Broker(_Started[_sync.Broker]):
    """A Mainspring broker in this process, which `async with`, or `await start()`, starts.

    The arguments are those of `mainspring.Broker`, and so is what it does. The loop goes on while it
    starts, stops, and kills its nodes.

    >>> async def main():
    ...     async with mainspring.aio.Broker() as broker, broker.producer() as producer:
    ...         return (await producer.send("orders", b"1")).offset
    >>> asyncio.run(main())
    0
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
        super().__init__(
            lambda: _sync.Broker(
                data_dir,
                host=host,
                port=port,
                node_id=node_id,
                nodes=nodes,
                insecure=insecure,
                settings=settings,
            )
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
        """A broker in a process of its own, which `async with`, or `await start()`, starts.

        >>> async def main():
        ...     async with mainspring.aio.Broker.spawn() as broker:
        ...         return broker.is_running
        >>> asyncio.run(main())
        True
        """
        return SpawnedBroker(data_dir, host=host, port=port, insecure=insecure, settings=settings)

    @property
    def nodes(self) -> dict[int, NodeInfo]:
        """Its nodes by their numbers, with where each is reached and what it does."""
        return self._held.nodes

    async def kill(self, *nodes: int) -> None:
        """Ends nodes at once, as `mainspring.Broker.kill`."""
        await asyncio.to_thread(self._held.kill, *nodes)

    async def restart(self, *nodes: int, timeout: float = 30.0) -> None:
        """Starts nodes again that do not run, as `mainspring.Broker.restart`."""
        held = self._held
        await asyncio.to_thread(lambda: held.restart(*nodes, timeout=timeout))

    async def pause(self, *nodes: int) -> None:
        """Holds nodes still, as `mainspring.Broker.pause`."""
        await asyncio.to_thread(self._held.pause, *nodes)

    async def resume(self, *nodes: int) -> None:
        """Lets nodes go on that were paused, as `mainspring.Broker.resume`."""
        await asyncio.to_thread(self._held.resume, *nodes)


class SpawnedBroker(_Started[_sync.SpawnedBroker]):
    """A broker in a process of its own, made by `Broker.spawn`."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        insecure: bool = False,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        super().__init__(
            lambda: _sync.SpawnedBroker(data_dir, host=host, port=port, insecure=insecure, settings=settings)
        )

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._held.pid

    async def kill(self) -> None:
        """Ends it at once, as a crash would. Nothing acknowledged is lost where it has a directory."""
        await asyncio.to_thread(self._held.kill)

    async def restart(self) -> None:
        """Starts it again at its address, as `mainspring.broker.SpawnedBroker.restart`."""
        await asyncio.to_thread(self._held.restart)


class _Starting(Generic[B]):
    """The start of a broker in a thread. Where nobody waits for it any more, the broker is stopped."""

    _made: B | None = None
    _is_given_up = False

    def __init__(self, make: Callable[[], B]) -> None:
        self._make: Callable[[], B] = make
        self._lock = threading.Lock()

    def run(self) -> B:
        made = self._make()
        with self._lock:
            self._made = made
            is_given_up = self._is_given_up
        if is_given_up:
            made.stop()
        return made

    def give_up(self) -> None:
        with self._lock:
            self._is_given_up = True
            made = self._made
        if made is not None:
            threading.Thread(target=made.stop, name="mainspring-stop").start()
