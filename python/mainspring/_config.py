"""Settings of clients: keywords and Kafka's dotted names, told to the core as text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Literal

from mainspring import _native
from mainspring.errors import ConfigError

__all__ = ["Setting", "setting_text", "to_settings"]

Setting = str | int | float | bool | Enum | timedelta | list[str] | tuple[str, ...] | None

# Shorter keywords for what is set most.
_SHORT: dict[str, dict[str, str]] = {
    "producer": {"compression": "compression.type", "idempotent": "enable.idempotence"},
    "consumer": {
        "auto_commit": "enable.auto.commit",
        "group": "group.id",
        "isolation": "isolation.level",
        "start": "auto.offset.reset",
    },
    "admin": {},
}
_PHRASE = {"producer": "a producer", "consumer": "a consumer", "admin": "an admin client"}


def to_settings(
    kind: Literal["producer", "consumer", "admin"],
    keywords: Mapping[str, Setting],
    config: Mapping[str, Setting] | None = None,
) -> list[tuple[str, str]]:
    """Joins keywords in snake_case and settings by Kafka's dotted names to pairs of text.

    `None` stands for what was not given.

    Raises:
        ConfigError: A setting is unknown, given both ways, or of a type that is no setting's. Its
            value is checked when the client is made.

    >>> to_settings("producer", {"linger_ms": 5, "compression": "zstd"}, {"enable.idempotence": True})
    [('linger.ms', '5'), ('compression.type', 'zstd'), ('enable.idempotence', 'true')]
    """
    found: dict[str, tuple[str, str]] = {}
    given = [(keyword, _dotted(kind, keyword), value) for keyword, value in keywords.items()]
    for name, value in (config or {}).items():
        if not isinstance(name, str):
            message = f"the names in config are strings such as 'linger.ms', and not {name!r}"
            raise ConfigError(message)
        given.append((name, name, value))
    for said, name, value in given:
        if value is None:
            continue
        other = next((other for other, short in _SHORT.items() if said in short), kind)
        if other != kind:
            message = f"{said} is a setting of {_PHRASE[other]}, not of {_PHRASE[kind]}; leave it out here"
            raise ConfigError(message, context={"setting": said})
        wrong = _native.explain_setting(kind, name)
        if wrong is not None:
            raise ConfigError(_explain(kind, said, name, *wrong), context={"setting": name})
        if name in found:
            message = f"{name} is given twice, as {found[name][0]} and as {said}; leave one of them out"
            raise ConfigError(message, context={"setting": name})
        found[name] = (said, setting_text(said, value))
    return [(name, text) for name, (_, text) in found.items()]


def meant(said: str, names: tuple[str, ...]) -> str | None:
    """Which of some names was meant by one that is none of them, if any."""
    return next(iter(difflib.get_close_matches(said, names, 1, 0.8)), None)


def _dotted(kind: str, keyword: str) -> str:
    return _SHORT[kind].get(keyword) or keyword.replace("_", ".")


def _explain(kind: str, said: str, name: str, why: str, meant: str | None) -> str:
    """Says what is wrong in the spelling that was used, and what is right in both."""
    if said != name:
        why = why.replace(name, said, 1)
    if meant is None:
        return why
    short = {dotted: keyword for keyword, dotted in _SHORT[kind].items()}
    keyword = short.get(meant, meant.replace(".", "_"))
    if keyword == meant:
        return why
    # The name that was asked for may hold the right one.
    before, _, behind = why.rpartition(meant)
    return f"{before}{keyword} ({meant} in config){behind}"


def setting_text(said: str, value: object) -> str:
    """A value as the text that Kafka takes."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, timedelta):
        return str(value // timedelta(milliseconds=1))
    if isinstance(value, list | tuple):
        return ",".join(setting_text(said, item) for item in value)
    if isinstance(value, str | int | float):
        return str(value)
    message = f"{said} is a number, a text or a bool, and not a {type(value).__name__}"
    raise ConfigError(message)
