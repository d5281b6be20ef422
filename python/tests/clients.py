"""One face for the client of threads and that of event loops, so that one suite holds for both."""

from __future__ import annotations

import asyncio
from typing import Any

import mainspring
import mainspring.aio


class Sync:
    """The client of threads."""

    name = "sync"

    def producer(self, *arguments: Any, **settings: Any) -> Any:
        return Direct(mainspring.Producer(*arguments, **settings))

    def consumer(self, *arguments: Any, **settings: Any) -> Any:
        return Direct(mainspring.Consumer(*arguments, **settings))

    def enter(self, opened: Any) -> None:
        opened.inner.__enter__()

    def close(self) -> None:
        pass


class Direct:
    """Passes everything on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send_and_wait(self, *arguments: Any, **keywords: Any) -> Any:
        return self.inner.send(*arguments, **keywords).result(20)

    def take(self, count: int, timeout: float = 20) -> list[Any]:
        """The next messages; fewer where no more come in time."""
        taken: list[Any] = []
        while len(taken) < count:
            message = self.inner.poll(timeout)
            if message is None:
                break
            taken.append(message)
        return taken

    def batch(self, **keywords: Any) -> Any:
        return next(self.inner.batches(**keywords))

    def each(self, work: Any) -> None:
        for message in self.inner:
            work(message)

    def following(self) -> Any:
        return next(self.inner)

    def transaction(self) -> Any:
        return DirectTransaction(self.inner.transaction())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)


class DirectTransaction(Direct):
    """One that is begun by its block."""

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self


class Aio:
    """The client of event loops, on a loop that runs whenever something is asked of it."""

    name = "aio"

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def producer(self, *arguments: Any, **settings: Any) -> Any:
        return self.open(lambda: mainspring.aio.Producer(*arguments, **settings))

    def consumer(self, *arguments: Any, **settings: Any) -> Any:
        return self.open(lambda: mainspring.aio.Consumer(*arguments, **settings))

    def open(self, make: Any) -> Any:
        async def made() -> Any:
            return await make().__aenter__()

        return Awaited(self.runner, self.runner.run(made()))

    def enter(self, opened: Any) -> None:
        self.runner.run(opened.inner.__aenter__())

    def close(self) -> None:
        self.runner.close()


class Awaited:
    """Awaits what is to be awaited."""

    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self.runner = runner
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        def run(*arguments: Any, **keywords: Any) -> Any:
            return self.runner.run(found(*arguments, **keywords))

        return run

    def send_and_wait(self, *arguments: Any, **keywords: Any) -> Any:
        async def sent() -> Any:
            return await self.inner.send(*arguments, **keywords)

        return self.runner.run(asyncio.wait_for(sent(), 20))

    def take(self, count: int, timeout: float = 20) -> list[Any]:
        async def taken() -> list[Any]:
            messages: list[Any] = []
            while len(messages) < count:
                message = await self.inner.poll(timeout)
                if message is None:
                    break
                messages.append(message)
            return messages

        return self.runner.run(taken())

    def batch(self, **keywords: Any) -> Any:
        async def first() -> Any:
            async for batch in self.inner.batches(**keywords):
                return batch

        return self.runner.run(first())

    def following(self) -> Any:
        async def one() -> Any:
            return await anext(self.inner)

        return self.runner.run(one())

    def each(self, work: Any) -> None:
        async def all_of_them() -> None:
            async for message in self.inner:
                work(message)

        self.runner.run(all_of_them())

    def transaction(self) -> Any:
        return AwaitedTransaction(self.runner, self.inner.transaction())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.runner.run(self.inner.__aexit__(*error))


class AwaitedTransaction(Awaited):
    """One that is begun by its block."""

    def __enter__(self) -> Any:
        self.runner.run(self.inner.__aenter__())
        return self
