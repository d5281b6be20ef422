"""What producers and consumers have in common."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mainspring import _log, _native
from mainspring.errors import ConfigError, OperationTimeout

if TYPE_CHECKING:
    from mainspring._topic import Topic

Bootstrap = str | Iterable[str] | None


# How long the end of the program waits for what is on its way, of all clients together.
_EXIT_SECONDS = 5.0


class _Closes(Protocol):
    def _at_exit(self, limit: float) -> _native.Call | None: ...


_open: weakref.WeakSet[Any] = weakref.WeakSet()
# Brokers in processes of their own, which are ended when clients have sent what they had.
_processes: weakref.WeakSet[Any] = weakref.WeakSet()


def bootstrap_text(bootstrap: Bootstrap) -> str:
    """The brokers to ask first, as text: those that are given, else those of the environment."""
    if bootstrap is None:
        return os.environ.get("MAINSPRING_BOOTSTRAP", "127.0.0.1:9092")
    if isinstance(bootstrap, str):
        return bootstrap
    given: object = bootstrap
    if isinstance(given, Mapping):
        message = 'the first argument is where brokers are, "HOST:PORT,HOST:PORT"; settings are keywords, or config={"linger.ms": 5}, without bootstrap.servers'
        raise ConfigError(message)
    addresses: list[str] = []
    for address in given if isinstance(given, Iterable) else [given]:
        if not isinstance(address, str):
            message = f'where a broker is is a text, "HOST:PORT", and not {address!r}'
            raise ConfigError(message)
        addresses.append(address)
    return ",".join(addresses)


def no_attribute(client: object, name: str, elsewhere: Mapping[str, str]) -> AttributeError:
    """The error of an attribute that is not there; where clients of other packages have it, it says what there is
    here."""
    kind = type(client).__name__
    here = elsewhere.get(name)
    hint = f"; here it is {here}" if here is not None else ""
    message = f"{kind!r} object has no attribute {name!r}{hint}"
    return AttributeError(message, name=name, obj=client)


def watch_exit(client: _Closes) -> None:
    """Has a client closed when the interpreter ends, and what it tells of brokers logged."""
    _open.add(client)
    _log.begin()


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
    found: list[Any]
    if isinstance(topics, str | bytes) or not isinstance(topics, Iterable):
        found = [topics]
    else:
        found = list(topics)
    for topic in found:
        if not isinstance(topic, str) and not hasattr(topic, "read_value"):
            message = f"a topic is a str or a Topic, and not of type {type(topic).__name__}"
            raise TypeError(message)
        check_topic(topic_name(topic))
    return found


def check_topic(name: str) -> None:
    """Refuses what no broker takes as a topic's name; a pattern is none."""
    wrong = None if name.startswith("^") else _native.explain_topic(name)
    if wrong is not None:
        raise ConfigError(f"{name[:300]!r} is no name of a topic: {wrong}", context={"topic": name})


@atexit.register
def _close_all() -> None:
    closing = [client._at_exit(_EXIT_SECONDS) for client in list(_open)]
    # And what those still send that nobody holds any more.
    closing += _native._left()
    deadline = time.monotonic() + _EXIT_SECONDS + 1.0
    left = 0
    for call in closing:
        if call is not None and call.wait(max(0.0, deadline - time.monotonic())):
            left += call.take() or 0
    if left:
        message = "the program ended before %d of its records were acknowledged; close() or flush() waits longer"
        logging.getLogger("mainspring").warning(message, left)
    _log.drain()
    for process in list(_processes):
        # A finalizer does nothing by itself any more when the interpreter ends.
        kept = process._ends.detach()
        if kept is not None:
            _, end, arguments, _ = kept
            end(*arguments)
    _native._shutdown()


os.register_at_fork(after_in_child=_native._after_fork)
