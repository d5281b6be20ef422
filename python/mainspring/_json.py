"""JSON to objects of a type and back, by the type's own annotations."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import decimal
import enum
import json
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any

__all__ = ["Mismatch", "encoder", "reader"]

Reader = Callable[[Any, str], Any]


class Mismatch(ValueError):
    """Something in a JSON text is not what the type says; the message begins with its path."""


def encoder() -> Callable[[Any], bytes]:
    """What makes JSON of dataclasses and of Python's plain types."""
    encode = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    ).encode
    return lambda value: encode(value).encode()


def reader(kind: Any) -> Callable[[bytes], Any]:
    """What makes an object of a type from JSON; `None` and `Any` take what there is.

    Raises:
        TypeError: The type, or one of a field, cannot be read from JSON.
    """
    read = _reader(kind, {})
    return lambda data: read(json.loads(data), "$")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | decimal.Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset | collections.abc.Sequence):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    kind = type(value).__name__
    message = f"a {kind} cannot be written as JSON; use a dataclass, or a plain type"
    raise TypeError(message)


def _reader(kind: Any, known: dict[Any, Reader]) -> Reader:
    if kind is None or kind is type(None):
        return _exact(type(None), "null")
    if kind is Any or kind is object:
        return lambda value, path: value
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin = typing.get_origin(kind)
    if origin is not None:
        return _generic(kind, origin, typing.get_args(kind), known)
    if not isinstance(kind, type):
        message = f"{kind!r} is no type that can be read from JSON"
        raise TypeError(message)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _record(kind, known)
    if issubclass(kind, enum.Enum):
        return _converted(object, kind, f"one of {[member.value for member in kind]}")
    if kind in (list, set, frozenset, tuple):
        return _items(kind, lambda value, path: value)
    if kind is dict:
        return _exact(dict, "an object")
    message = f"{kind.__name__} is no type that can be read from JSON; use a dataclass, or a model of \
pydantic or msgspec"
    raise TypeError(message)


def _generic(kind: Any, origin: Any, arguments: tuple[Any, ...], known: dict[Any, Reader]) -> Reader:
    if origin is typing.Annotated:
        return _reader(arguments[0], known)
    if origin is typing.Required or origin is typing.NotRequired:
        return _reader(arguments[0], known)
    if origin is typing.Literal:
        return _converted(object, _one_of(arguments), f"one of {list(arguments)}")
    if origin is typing.Union or origin is types.UnionType:
        return _union([_reader(argument, known) for argument in arguments])
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):
        return _tuple([_reader(argument, known) for argument in arguments])
    made = _COLLECTIONS.get(origin)
    if made is not None:
        return _items(made, _reader(arguments[0], known))
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        if arguments[0] is not str:
            message = f"{kind} cannot be read from JSON: the keys of an object are strings"
            raise TypeError(message)
        return _mapping(_reader(arguments[1], known))
    message = f"{kind} is no type that can be read from JSON"
    raise TypeError(message)


def _record(kind: Any, known: dict[Any, Reader]) -> Reader:
    """Reads an object into a dataclass or a typed dictionary. Names that it does not know are passed
    over, so that a producer may add some."""
    if kind in known:
        return known[kind]
    readers: dict[str, Reader] = {}
    required: list[str] = []

    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _mismatch(path, "an object", value)
        for name in required:
            if name not in value:
                message = f"{path}.{name} is missing"
                raise Mismatch(message)
        given = {
            name: readers[name](item, f"{path}.{name}")
            for name, item in value.items()
            if name in readers
        }
        return kind(**given)

    # A type may hold itself.
    known[kind] = read
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if not field.init:
                continue
            readers[field.name] = _reader(hints[field.name], known)
            if field.default is field.default_factory is dataclasses.MISSING:
                required.append(field.name)
    else:
        for name, hint in hints.items():
            readers[name] = _reader(hint, known)
        required.extend(sorted(kind.__required_keys__))
    return read


def _exact(kind: type, what: str) -> Reader:
    def read(value: Any, path: str) -> Any:
        # true is an int in Python, and no number in JSON.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _mismatch(path, what, value)
        return value

    return read


def _float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(path, "a number", value)
    return float(value)


def _converted(source: type, convert: Callable[[Any], Any], what: str) -> Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, source):
            raise _mismatch(path, what, value)
        try:
            return convert(value)
        except (ValueError, ArithmeticError):
            raise _mismatch(path, what, value) from None

    return read


def _one_of(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def pick(value: Any) -> Any:
        for known in allowed:
            if known == value and type(known) is type(value):
                return known
        raise ValueError(value)

    return pick


def _union(readers: list[Reader]) -> Reader:
    def read(value: Any, path: str) -> Any:
        problems = []
        for one in readers:
            try:
                return one(value, path)
            except Mismatch as problem:
                problems.append(problem)
        # The one that came deepest tells most.
        raise max(problems, key=lambda problem: len(str(problem).split(" ", 1)[0]))

    return read


def _items(made: Callable[[Any], Any], one: Reader) -> Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise _mismatch(path, "an array", value)
        return made([one(item, f"{path}[{index}]") for index, item in enumerate(value)])

    return read


def _tuple(readers: list[Reader]) -> Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _mismatch(path, f"an array of {len(readers)}", value)
        pairs = enumerate(zip(readers, value, strict=True))
        return tuple(one(item, f"{path}[{index}]") for index, (one, item) in pairs)

    return read


def _mapping(one: Reader) -> Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _mismatch(path, "an object", value)
        return {name: one(item, f"{path}.{name}") for name, item in value.items()}

    return read


def _mismatch(path: str, expected: str, value: Any) -> Mismatch:
    found = json.dumps(value)
    found = found if len(found) <= 60 else found[:57] + "..."
    return Mismatch(f"{path} must be {expected}, and is {found}")


_SCALARS: dict[Any, Reader] = {
    str: _exact(str, "a string"),
    int: _exact(int, "a whole number"),
    bool: _exact(bool, "true or false"),
    float: _float,
    bytes: _converted(str, lambda text: base64.b64decode(text, validate=True), "base64"),
    datetime: _converted(str, datetime.fromisoformat, "a time as in 2026-01-31T12:00:00+00:00"),
    date: _converted(str, date.fromisoformat, "a date as in 2026-01-31"),
    time: _converted(str, time.fromisoformat, "a time of day as in 12:00:00"),
    uuid.UUID: _converted(str, uuid.UUID, "a UUID"),
    decimal.Decimal: _converted(str, decimal.Decimal, "a number in quotes"),
}

_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
}
