"""What producers and consumers have in common."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mainspring import _native
from mainspring.errors import OperationTimeout

if TYPE_CHECKING:
    from mainspring._topic import Topic

Bootstrap = str | Iterable[str] | None


class _Closes(Protocol):
    def _at_exit(self) -> None: ...


_open: weakref.WeakSet[Any] = weakref.WeakSet()


def bootstrap_text(bootstrap: Bootstrap) -> str:
    """The brokers to ask first, as text: those that are given, else those of the environment."""
    if bootstrap is None:
        return os.environ.get("MAINSPRING_BOOTSTRAP", "127.0.0.1:9092")
    return bootstrap if isinstance(bootstrap, str) else ",".join(bootstrap)


def watch_exit(client: _Closes) -> None:
    """Has a client closed when the interpreter ends."""
    _open.add(client)


def wait(call: _native.Call, timeout: float | None, what: str) -> Any:
    """Waits for an answer and returns it."""
    if not call.wait(timeout):
        raise OperationTimeout(f"{what} took longer than {timeout} s; it may still come to its end")
    return call.take()


def topic_name(topic: str | Topic[Any, Any]) -> str:
    """The name of a topic, typed or not."""
    return topic if isinstance(topic, str) else topic.name


def topic_list(topics: str | Topic[Any, Any] | Iterable[str | Topic[Any, Any]] | None) -> list[Any]:
    """Topics as a list of names and typed topics."""
    if topics is None:
        return []
    if isinstance(topics, str) or not isinstance(topics, Iterable):
        return [topics]
    return list(topics)


def headers_of(headers: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Headers as they are handed over."""
    return headers


@atexit.register
def _close_all() -> None:
    for client in list(_open):
        client._at_exit()
    _native._shutdown()


os.register_at_fork(after_in_child=_native._after_fork)
