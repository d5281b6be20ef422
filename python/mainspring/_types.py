"""Small types that producers, consumers and administrators share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

__all__ = ["Headers", "TopicPartition"]


class TopicPartition(NamedTuple):
    """A partition by its topic's name and its number, which begins at 0.

    >>> TopicPartition("orders", 0).topic
    'orders'
    """

    topic: str
    partition: int


class Headers(Mapping[str, bytes | None]):
    """The headers of a record, in their order. Names may repeat, and a value may be null.

    >>> headers = Headers([("trace", b"1"), ("hop", b"a"), ("hop", b"b")])
    >>> headers["hop"], headers.all("hop")
    (b'b', [b'a', b'b'])
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, bytes | None]] = ()) -> None:
        self._pairs = list(pairs)

    def __getitem__(self, name: str) -> bytes | None:
        """The last value of a name."""
        for known, value in reversed(self._pairs):
            if known == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """The names, each once."""
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        """How many names there are."""
        return len(dict(self._pairs))

    def all(self, name: str) -> list[bytes | None]:
        """All values of a name, in their order."""
        return [value for known, value in self._pairs if known == name]

    def pairs(self) -> list[tuple[str, bytes | None]]:
        """All names and values, in their order."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


def _millis(moment: datetime) -> int:
    """Milliseconds since 1970 of a time with a zone."""
    if not isinstance(moment, datetime):
        kind = type(moment).__name__
        message = f"a timestamp is a datetime or an int of milliseconds since 1970, and not a {kind}"
        raise TypeError(message)
    if moment.tzinfo is None:
        message = "a datetime without a zone is a different moment on each machine; give it one, \
such as datetime.now(timezone.utc)"
        raise ValueError(message)
    return int(moment.timestamp() * 1000)
