"""A topic with the types of its keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from mainspring.errors import DeserializationError, SerializationError
from mainspring.serde import Bytes, Nullable, Serializer

__all__ = ["Topic"]

K = TypeVar("K")
V = TypeVar("V")


class Topic(Generic[K, V]):
    """A topic by its name, and how its keys and values become bytes.

    It is given wherever a topic's name is: what is sent to it is serialized, and messages that are read
    of it have keys and values of its types, which type checkers know. Bytes that cannot be read raise
    `DeserializationError` where the key or the value is looked at; the message's `raw` stays.

    A record may have no key, which is `None`. A null value is refused both ways unless the serializer
    of values is `Nullable`.

    Args:
        name: The topic's name.
        key: The serializer of keys.
        value: The serializer of values.

    >>> from mainspring.serde import Json, Utf8
    >>> orders = Topic("orders", key=Utf8(), value=Json(dict[str, int]))
    >>> orders.serialize({"amount": 9}, "o1")
    (b'{"amount":9}', b'o1')
    """

    name: str
    """The topic's name."""
    key: Serializer[K]
    """The serializer of keys."""
    value: Serializer[V]
    """The serializer of values."""

    @overload
    def __init__(
        self: Topic[bytes, bytes], name: str, *, key: None = None, value: None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[K, bytes], name: str, *, key: Serializer[K], value: None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[bytes, V], name: str, *, key: None = None, value: Serializer[V]
    ) -> None: ...
    @overload
    def __init__(self, name: str, *, key: Serializer[K], value: Serializer[V]) -> None: ...
    def __init__(self, name: str, *, key: Any = None, value: Any = None) -> None:
        if not isinstance(name, str):
            message = f"the name of a topic is a str, and not a {type(name).__name__}"
            raise TypeError(message)
        self.name = name
        self.key = _serializer("key", key)
        self.value = _serializer("value", value)

    def serialize(self, value: V | None, key: K | None = None) -> tuple[bytes | None, bytes | None]:
        """Makes the bytes of a value and a key, `None` for null.

        Raises:
            SerializationError: One of them is not of the type that its serializer writes.
        """
        raw_key = None if key is None else self._write("key", self.key, key)
        if value is None and isinstance(self.value, Nullable | Bytes):
            return None, raw_key
        return self._write("value", self.value, value), raw_key

    @property
    def read_key(self) -> Callable[[bytes | None, str, int, int], K] | None:
        """What makes a key of bytes and where they stand: topic, partition, offset. `None` where bytes
        stay bytes."""
        return None if isinstance(self.key, Bytes) else self._read_key

    @property
    def read_value(self) -> Callable[[bytes | None, str, int, int], V] | None:
        """What makes a value of bytes and where they stand; `None` where bytes stay bytes."""
        return None if isinstance(self.value, Bytes) else self._read_value

    def _write(self, part: str, serializer: Serializer[Any], value: Any) -> bytes:
        try:
            if value is None:
                message = "null is sent only by a serializer that is Nullable"
                raise TypeError(message)
            raw: object = serializer.serialize(value)
            if not isinstance(raw, bytes):
                message = f"the serializer made a {type(raw).__name__} of it, and not bytes"
                raise TypeError(message)
        except Exception as problem:
            message = f"topic {self.name}: the {part} cannot be written by {serializer!r}: {_said(problem)}; \
it was not sent; see that it is of the type that the topic takes"
            context = {"topic": self.name, "part": part}
            raise SerializationError(message, context=context) from problem
        return raw

    def _read_key(self, data: bytes | None, topic: str, partition: int, offset: int) -> K:
        key: K = self._read("key", self.key, data, (topic, partition, offset))
        return key

    def _read_value(self, data: bytes | None, topic: str, partition: int, offset: int) -> V:
        value: V = self._read("value", self.value, data, (topic, partition, offset))
        return value

    def _read(
        self, part: str, serializer: Serializer[Any], data: bytes | None, at: tuple[str, int, int]
    ) -> Any:
        if data is None and (part == "key" or isinstance(serializer, Nullable)):
            return None
        try:
            if data is None:
                message = "it is null, which only a serializer that is Nullable reads"
                raise ValueError(message)
            return serializer.deserialize(data)
        except Exception as problem:
            topic, partition, offset = at
            message = f"topic {topic}, partition {partition}, offset {offset}: the {part} cannot be read by \
{serializer!r}: {_said(problem)}; the message's raw bytes are there; pass it over, or give the \
topic another serializer"
            context = {"topic": topic, "partition": partition, "offset": offset, "part": part}
            raise DeserializationError(message, context=context) from problem

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, key={self.key!r}, value={self.value!r})"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topic):
            return NotImplemented
        return (self.name, self.key, self.value) == (other.name, other.key, other.value)

    def __hash__(self) -> int:
        return hash((Topic, self.name))


def _serializer(part: str, serializer: Any) -> Any:
    if serializer is None:
        return Bytes()
    if isinstance(serializer, type):
        message = f"the serializer of the {part} is the class {serializer.__name__}; make one of it: \
{part}={serializer.__name__}()"
        raise TypeError(message)
    if not (hasattr(serializer, "serialize") and hasattr(serializer, "deserialize")):
        kind = type(serializer).__name__
        message = f"a {kind} is no serializer of the {part}: it has no serialize and deserialize; see \
mainspring.serde"
        raise TypeError(message)
    return serializer


def _said(problem: Exception) -> str:
    """The words of an error on one line."""
    return " ".join(str(problem).split()) or type(problem).__name__
