"""Serializers: how keys and values of a `Topic` become bytes, and bytes become them.

A serializer is any object with `serialize` and `deserialize`; these are the usual ones. Numbers are
written as Kafka's own serializers write them.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Order:
...     id: str
...     amount: float
>>> Json(Order).serialize(Order("o1", 9.5))
b'{"id":"o1","amount":9.5}'
>>> Json(Order).deserialize(b'{"id":"o1","amount":9.5}')
Order(id='o1', amount=9.5)
"""

from __future__ import annotations

import struct
import typing
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, overload

from mainspring import _json

__all__ = ["Bytes", "Float64", "Int32", "Int64", "Json", "Nullable", "Serializer", "Utf8"]

T = TypeVar("T")


class Serializer(Protocol[T]):
    """What a `Topic` needs of a serializer. Whatever it raises becomes a `SerializationError` or a
    `DeserializationError` that says where."""

    def serialize(self, value: T, /) -> bytes:
        """Makes bytes of a value."""
        ...

    def deserialize(self, data: bytes, /) -> T:
        """Makes a value of bytes."""
        ...


class _Plain:
    """A serializer without options: all of a kind are equal."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class Bytes(_Plain):
    """Bytes as they are: the serializer of a topic that names none.

    >>> Bytes().serialize(b"as it is")
    b'as it is'
    """

    def serialize(self, value: bytes, /) -> bytes:
        """Returns the same bytes, those of a `bytearray` or a `memoryview` copied."""
        if isinstance(value, str):
            message = "it is a str, and a record holds bytes"
            raise TypeError(message)
        return value if isinstance(value, bytes) else bytes(memoryview(value))

    def deserialize(self, data: bytes, /) -> bytes:
        """Returns the same bytes."""
        return data


class Utf8(_Plain):
    """Text as UTF-8.

    >>> Utf8().serialize("müde"), Utf8().deserialize(b"wach")
    (b'm\\xc3\\xbcde', 'wach')
    """

    def serialize(self, value: str, /) -> bytes:
        """Makes bytes of a text."""
        if not isinstance(value, str):
            message = f"it is of type {type(value).__name__}, and not a str"
            raise TypeError(message)
        return value.encode()

    def deserialize(self, data: bytes, /) -> str:
        """Makes a text of bytes."""
        return data.decode()


class _Number(_Plain):
    _FORM: struct.Struct

    def _pack(self, value: float) -> bytes:
        try:
            return self._FORM.pack(value)
        except struct.error as problem:
            raise ValueError(str(problem)) from None

    def _unpack(self, data: bytes) -> Any:
        if len(data) != self._FORM.size:
            message = f"{self._FORM.size} bytes are needed, and there are {len(data)}"
            raise ValueError(message)
        return self._FORM.unpack(data)[0]


class Int32(_Number):
    """A whole number in 4 bytes, as Kafka's `IntegerSerializer` writes it.

    >>> Int32().serialize(258)
    b'\\x00\\x00\\x01\\x02'
    """

    _FORM = struct.Struct(">i")

    def serialize(self, value: int, /) -> bytes:
        """Makes 4 bytes of a number from -2147483648 to 2147483647."""
        return self._pack(value)

    def deserialize(self, data: bytes, /) -> int:
        """Makes a number of 4 bytes."""
        return int(self._unpack(data))


class Int64(_Number):
    """A whole number in 8 bytes, as Kafka's `LongSerializer` writes it.

    >>> Int64().deserialize(Int64().serialize(-7))
    -7
    """

    _FORM = struct.Struct(">q")

    def serialize(self, value: int, /) -> bytes:
        """Makes 8 bytes of a number of 64 bits."""
        return self._pack(value)

    def deserialize(self, data: bytes, /) -> int:
        """Makes a number of 8 bytes."""
        return int(self._unpack(data))


class Float64(_Number):
    """A number with a fraction in 8 bytes, as Kafka's `DoubleSerializer` writes it.

    >>> Float64().deserialize(Float64().serialize(0.5))
    0.5
    """

    _FORM = struct.Struct(">d")

    def serialize(self, value: float, /) -> bytes:
        """Makes 8 bytes of a number."""
        return self._pack(value)

    def deserialize(self, data: bytes, /) -> float:
        """Makes a number of 8 bytes."""
        return float(self._unpack(data))


class Nullable(Generic[T]):
    """Another serializer, and `None` for null: the deletion of a key in a compacted topic.

    >>> Nullable(Utf8())
    Nullable(Utf8())
    """

    def __init__(self, inner: Serializer[T]) -> None:
        self.inner = inner
        """What makes bytes of everything but `None`."""

    def serialize(self, value: T | None, /) -> bytes:
        """Makes bytes of a value that is not `None`; a topic sends null for that."""
        if value is None:
            message = "null is no bytes"
            raise TypeError(message)
        return self.inner.serialize(value)

    def deserialize(self, data: bytes, /) -> T | None:
        """Makes a value of bytes."""
        return self.inner.deserialize(data)

    def __repr__(self) -> str:
        return f"Nullable({self.inner!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nullable) and self.inner == other.inner

    def __hash__(self) -> int:
        return hash((Nullable, self.inner))


class Json(Generic[T]):
    """Objects of a type as JSON: a dataclass, a model of pydantic, a struct of msgspec, a typed
    dictionary, or plain types such as `dict[str, int]`. Without a type, whatever JSON holds.

    A dataclass is read by its annotations: a field that is missing or of another type is refused with
    its path, one that the class does not know is passed over. What would be refused so is not written either;
    models of pydantic and structs of msgspec are written as their libraries do it. Nested dataclasses, lists, tuples, sets,
    dictionaries, unions, literals, enumerations, `datetime`, `date`, `time` (ISO 8601), `UUID`, `Decimal`
    (as strings) and `bytes` (as base64) are read back as what they were.

    Raises:
        TypeError: The type, or that of a field, cannot be read from JSON.

    >>> Json(dict[str, int]).deserialize(b'{"a": 1}')
    {'a': 1}
    >>> Json(dict[str, int]).deserialize(b'{"a": "x"}')
    Traceback (most recent call last):
    ...
    mainspring._json.Mismatch: $.a must be a whole number, and is "x"
    """

    @overload
    def __init__(self: Json[Any]) -> None: ...
    @overload
    def __init__(self, kind: type[T]) -> None: ...
    @overload
    def __init__(self: Json[Any], kind: Any) -> None: ...
    def __init__(self, kind: Any = Any) -> None:
        self.kind = kind
        """The type."""
        self._write, self._read = _functions(kind)
        self._instances = _instances(kind)

    def serialize(self, value: T, /) -> bytes:
        """Makes JSON of a value, without spaces and in UTF-8."""
        if not isinstance(value, self._instances):
            message = f"it is of type {type(value).__name__}, and not {self.kind.__name__}"
            raise TypeError(message)
        return self._write(value)

    def deserialize(self, data: bytes, /) -> T:
        """Makes a value of JSON."""
        value: T = self._read(data)
        return value

    def __repr__(self) -> str:
        if self.kind is Any:
            return "Json()"
        return f"Json({self.kind.__name__ if isinstance(self.kind, type) else self.kind})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.kind == other.kind

    def __hash__(self) -> int:
        return hash((Json, repr(self.kind)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Json, (self.kind,))


def _functions(kind: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """What writes and reads objects of a type. Libraries are taken up where the type is theirs."""
    if hasattr(kind, "model_validate_json"):
        return lambda model: model.model_dump_json().encode(), kind.model_validate_json
    if hasattr(kind, "__pydantic_validator__"):
        import pydantic

        adapter = pydantic.TypeAdapter(kind)
        return adapter.dump_json, adapter.validate_json
    if hasattr(kind, "__struct_fields__"):
        import msgspec

        return msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode
    write, read = _json.encoder(), _json.reader(kind)
    if kind is Any:
        return write, read

    def checked(value: Any) -> bytes:
        # A field that holds something else would be found by whoever reads it, too late.
        data = write(value)
        read(data)
        return data

    return checked, read


def _instances(kind: Any) -> type | tuple[type, ...]:
    """The classes that a value of a type is an instance of, as far as it can be told cheaply."""
    if kind is float:
        return (float, int)
    if typing.is_typeddict(kind):
        return dict
    return kind if isinstance(kind, type) and kind is not Any else object
