"""Records that come later: what is asked for by headers, and the topics that honour them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mainspring import _native
from mainspring._types import _millis
from mainspring.errors import AlreadyDelivered, ConfigError

__all__ = ["ScheduleId", "ScheduledMessage"]

Delay = float | timedelta
# The longest name of a record, in bytes.
_ID_BYTES = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Who names a number below this means seconds since 1970: as milliseconds it is before March 1973.
_SECONDS_BELOW = 100_000_000_000
# The end of the year 9999.
_LAST_MILLIS = 253_402_300_799_999


class ScheduleId(NamedTuple):
    """Where a record waits, to cancel it or give it another time.

    >>> ScheduleId("reminders", 0, 17).ticket
    17
    """

    topic: str
    partition: int
    ticket: int
    """The offset that its producer was told. No record is ever seen at it."""


@dataclass(frozen=True, slots=True)
class ScheduledMessage:
    """A record that waits, or did."""

    schedule_id: ScheduleId
    """Where it waits."""
    deliver_at: datetime | None
    """When it comes, in UTC; `None` for what comes with its verdict, and for what has ended."""
    id: str | None
    """What its producer calls it."""
    size: int
    """What it counts for, in bytes: key, value, headers, names, and 64 of its own."""
    state: str
    """`scheduled`, `in-transaction`, `held` (by an open transaction), `half`, `parked`, or for a day how it
    ended: `delivered`, `cancelled`, `committed`, `rolled-back`, `replaced`."""
    checks: int
    """How often its verdict was asked for; 0 once it is parked."""
    offset: int | None
    """Where it was delivered, or the ticket of what replaced it."""


def delay_millis(delay: Delay) -> int:
    """Milliseconds of a number of seconds, or of a `timedelta`."""
    if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta):
        message = f"a delay is a number of seconds or a timedelta, and not a {type(delay).__name__}"
        raise TypeError(message)
    try:
        span = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
    except (OverflowError, ValueError):
        message = f"the delay {delay} is no time that ever comes"
        raise ValueError(message) from None
    if span < timedelta():
        message = f"the delay {delay} is below 0"
        raise ValueError(message)
    # A delay is never cut short.
    return -(-span // timedelta(milliseconds=1))


def moment_millis(deliver_at: datetime | int) -> int:
    """Milliseconds since 1970 of a moment at which a record is to come."""
    if isinstance(deliver_at, bool) or not isinstance(deliver_at, int | datetime):
        kind = type(deliver_at).__name__
        message = (
            f"deliver_at is a datetime or an int of milliseconds since 1970, and not a {kind}; after a while "
            "from now is delay="
        )
        raise TypeError(message)
    if isinstance(deliver_at, int):
        millis = deliver_at
        if 0 < millis < _SECONDS_BELOW:
            message = (
                f"deliver_at {deliver_at} is a moment in {1970 + millis // 31_556_952_000} in milliseconds since 1970; "
                "seconds are multiplied by 1000, and a while from now is delay="
            )
            raise ValueError(message)
    else:
        _millis(deliver_at)
        # Rounded up: a record never comes before its time.
        millis = -(-(deliver_at - _EPOCH) // timedelta(milliseconds=1))
    if not 0 <= millis <= _LAST_MILLIS:
        message = f"deliver_at {deliver_at} is not between 1970 and the end of the year 9999"
        raise ValueError(message)
    return millis


def later_headers(
    delay: Delay | None, deliver_at: datetime | int | None, id: str | bytes | None
) -> list[tuple[str, bytes]]:
    """The headers that ask for a record to come later."""
    if delay is not None and deliver_at is not None:
        message = "say when the record is to come: either delay or deliver_at"
        raise ValueError(message)
    headers = []
    if delay is not None:
        headers.append(("mainspring-delay-ms", b"%d" % delay_millis(delay)))
    if deliver_at is not None:
        headers.append(("mainspring-deliver-at", b"%d" % moment_millis(deliver_at)))
    if id is not None:
        if not isinstance(id, str | bytes):
            message = f"an id is a str or bytes, and not {type(id).__name__}"
            raise TypeError(message)
        name = id.encode() if isinstance(id, str) else id
        if not 0 < len(name) <= _ID_BYTES:
            message = f"an id has 1 to {_ID_BYTES} bytes, and not {len(name)}"
            raise ValueError(message)
        headers.append(("mainspring-id", name))
    return headers


def check_features(topic: str, feature: str, features: list[str]) -> None:
    """Refuses to send what nobody would hold back: without the feature, the headers are plain data."""
    if feature in features:
        return
    value = ",".join([*features, feature])
    message = (
        f"topic {topic}: its records would come at once, for it lacks the feature {feature}; set it by "
        f'Admin.alter_topic("{topic}", config={{"mainspring.features": "{value}"}}), or send plain records'
    )
    raise ConfigError(message, context={"topic": topic})


def handle_of(handle: Any) -> tuple[str, int, int]:
    """The parts of a handle: a `ScheduleId`, or what has one."""
    found = getattr(handle, "schedule_id", handle)
    if not (isinstance(found, tuple) and len(found) == 3):
        message = f"a record that waits is named by its ScheduleId, and not by {handle!r}"
        raise TypeError(message)
    topic, partition, ticket = found
    return topic, partition, ticket


def new_time(delay: Delay | None, deliver_at: datetime | int | None) -> tuple[str, int]:
    """Another time, as the native administrator takes it."""
    if (delay is None) == (deliver_at is None):
        message = "say when the record is to come: either delay or deliver_at"
        raise ValueError(message)
    if delay is not None:
        return "reschedule-after", delay_millis(delay)
    assert deliver_at is not None
    return "reschedule-at", moment_millis(deliver_at)


def check_altered(handle: tuple[str, int, int], offset: int | None) -> None:
    """Raises where it was too late."""
    if offset is None:
        return
    topic, partition, ticket = handle
    message = (
        f"topic {topic}, partition {partition}: the record {ticket} was delivered at offset {offset}; "
        "read it there"
    )
    context: Mapping[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
    raise AlreadyDelivered(message, context=context)


def scheduled_message(
    topic: str,
    partition: int,
    ticket: int,
    due_ms: int | None,
    id: bytes | None,
    size: int,
    state: str,
    checks: int,
    offset: int | None,
) -> ScheduledMessage:
    """Makes an object of what the native administrator tells."""
    due = None
    if due_ms is not None:
        try:
            due = datetime.fromtimestamp(due_ms / 1000, UTC)
        except (OverflowError, ValueError):
            due = datetime.max.replace(tzinfo=UTC)
    name = None if id is None else bytes(id).decode("utf-8", "replace")
    return ScheduledMessage(
        ScheduleId(topic, partition, ticket), due, name, size, state, checks, offset
    )


def helper(bootstrap: str, settings: list[tuple[str, str]]) -> _native.Admin:
    """An administrator for a producer, with those of its settings that administrators have."""
    known = [pair for pair in settings if _native.explain_setting("admin", pair[0]) is None]
    return _native.Admin(bootstrap, known)
