"""The administrator: topics, groups and the cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mainspring import _native
from mainspring._client import Bootstrap, bootstrap_text, topic_list
from mainspring._config import Setting, setting_text, to_settings
from mainspring._later import (
    Delay,
    ScheduledMessage,
    ScheduleId,
    check_altered,
    handle_of,
    new_time,
    scheduled_message,
)
from mainspring._topic import Topic
from mainspring._types import TopicPartition, _millis
from mainspring.errors import ClosedError, GroupNotFound, TopicAlreadyExists, TopicNotFound

__all__ = [
    "Admin",
    "BrokerInfo",
    "ClusterInfo",
    "GroupInfo",
    "GroupMember",
    "GroupProgress",
    "GroupSummary",
    "LogDir",
    "LogSize",
    "PartitionInfo",
    "PlannedOffset",
    "TopicInfo",
]

T = TypeVar("T")

TopicName = str | Topic[Any, Any]
Resettable = TopicName | TopicPartition | tuple[str, int]


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition of a topic."""

    partition: int
    """Its number, from 0."""
    leader: int
    """The broker that leads it, -1 for none."""
    leader_epoch: int
    """How often leadership has changed."""
    replicas: tuple[int, ...]
    """The brokers that hold it."""
    isr: tuple[int, ...]
    """Those that have all of it."""
    start: int | None
    """Its first offset; `None` where no leader tells."""
    end: int | None
    """The offset behind its last record."""
    bytes: int | None
    """Size of one copy; `None` where no broker tells."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic and its partitions."""

    name: str
    """Its name."""
    id: str
    """Its id, another one for each topic that was ever made of the name."""
    internal: bool
    """Whether it is the broker's own."""
    details: tuple[PartitionInfo, ...]
    """Its partitions."""
    config: Mapping[str, str | None]
    """Settings that were made for the topic, where it was asked for by name."""

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return len(self.details)

    @property
    def replication(self) -> int:
        """How many copies of each there are."""
        return len(self.details[0].replicas) if self.details else 0

    @property
    def messages(self) -> int:
        """How many offsets there are between the starts and ends of its partitions."""
        return sum(
            max(0, part.end - part.start)
            for part in self.details
            if part.end is not None and part.start is not None
        )

    @property
    def bytes(self) -> int:
        """Size of one copy of all partitions, as far as brokers tell."""
        return sum(part.bytes or 0 for part in self.details)

    @property
    def under_replicated(self) -> int:
        """How many partitions lack a copy."""
        return sum(len(part.isr) < len(part.replicas) for part in self.details)


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group in the list of groups."""

    name: str
    """Its name."""
    state: str
    """`Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Dead`."""
    kind: str
    """`classic`, or `consumer` for the protocol of KIP-848."""
    protocol_type: str
    """`consumer` for groups of consumers."""
    coordinator: int
    """The broker that coordinates it."""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member of a group."""

    member_id: str
    """The id that the coordinator gave it."""
    instance_id: str | None
    """Its `group_instance_id`."""
    client_id: str
    """Its `client_id`."""
    host: str
    """Where it is."""
    partitions: tuple[TopicPartition, ...]
    """What it reads."""


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """How far a group has come in a partition."""

    topic: str
    """The topic."""
    partition: int
    """The partition."""
    offset: int | None
    """The offset that is stored: the next one to be read; `None` where nothing is stored."""
    metadata: str | None
    """Words of whoever stored it."""
    start: int | None
    """The partition's first offset, `None` where it is gone."""
    end: int | None
    """The offset behind its last record."""
    lag: int | None
    """Records that can be read and are not below the stored offset, never below 0; `None` where nothing
    is stored, or the partition is gone."""
    member_id: str | None
    """The member that reads it."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group, its members and how far it has come."""

    name: str
    """Its name."""
    state: str
    """`Stable`, `Empty`, `PreparingRebalance` or `CompletingRebalance`."""
    protocol_type: str
    """`consumer` for groups of consumers."""
    assignor: str
    """The rule by which partitions are given out; empty while nobody has agreed on one."""
    coordinator: int
    """The broker that coordinates it."""
    members: tuple[GroupMember, ...]
    """Its members."""
    progress: tuple[GroupProgress, ...]
    """How far it has come, by topic and partition."""

    @property
    def total_lag(self) -> int | None:
        """How many records are still to be read, of all partitions where that is known; `None` where it is known of
        none, as for a group that has stored nothing."""
        known = [row.lag for row in self.progress if row.lag is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class PlannedOffset:
    """An offset that a reset stores."""

    topic: str
    """The topic."""
    partition: int
    """The partition."""
    before: int | None
    """What was stored before."""
    after: int
    """What is stored then."""


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A broker of the cluster."""

    id: int
    """Its number."""
    host: str
    """Where clients reach it."""
    port: int
    """At which port."""
    rack: str | None
    """Where it stands."""


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster."""

    id: str
    """Its id."""
    controller: int
    """The broker that takes administrative requests."""
    brokers: tuple[BrokerInfo, ...]
    """Its brokers."""


@dataclass(frozen=True, slots=True)
class LogSize:
    """A partition's log in a directory."""

    topic: str
    """The topic."""
    partition: int
    """The partition."""
    bytes: int
    """Its size."""


@dataclass(frozen=True, slots=True)
class LogDir:
    """A directory in which a broker keeps logs."""

    broker: int
    """The broker."""
    path: str
    """The directory."""
    total: int | None
    """Bytes of its disk, `None` where the broker does not tell."""
    usable: int | None
    """Bytes that are free."""
    logs: tuple[LogSize, ...]
    """The logs in it."""


@dataclass(frozen=True, slots=True)
class _Step(Generic[T]):
    """An operation that was started, and what its answer means."""

    call: _native.Call
    what: str
    finish: Callable[[Any], T]
    # The error that is an answer too.
    answer: type[Exception] | None = None

    def result(self) -> T:
        """Makes the answer of what came."""
        try:
            told = self.call.take()
        except Exception as error:
            if self.answer is not None and isinstance(error, self.answer):
                return self.finish(error)
            raise
        return self.finish(told)


class AdminCore:
    """What the administrator of threads and that of event loops share."""

    def __init__(
        self,
        bootstrap: Bootstrap = None,
        *,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None:
        self._bootstrap = bootstrap_text(bootstrap)
        self._client = _native.Admin(self._bootstrap, to_settings("admin", settings, config))
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def _check_open(self) -> None:
        if self._is_closed:
            message = "this Admin is closed; make another one"
            raise ClosedError(message)

    @property
    def _native_admin(self) -> _native.Admin:
        self._check_open()
        return self._client

    def _close(self) -> None:
        self._is_closed = True
        self._client.close()

    def _topics(self, internal: bool) -> _Step[list[TopicInfo]]:
        def finish(told: list[Any]) -> list[TopicInfo]:
            return [_topic(*one) for one in told if internal or not one[2]]

        return _Step(self._native_admin.topics(None, False), "listing topics", finish)

    def _topic(self, topic: TopicName) -> _Step[TopicInfo]:
        call = self._native_admin.topics([_name(topic)], True)
        return _Step(call, "describing a topic", lambda told: _topic(*told[0]))

    def _create_topic(
        self,
        topic: TopicName,
        partitions: int | None,
        replication: int | None,
        config: Mapping[str, Setting] | None,
        exist_ok: bool,
    ) -> _Step[bool]:
        for what, count in (("partitions", partitions), ("replication", replication)):
            if count is not None and count < 1:
                message = f"{what}={count} is less than 1; leave it out for the broker's default"
                raise ValueError(message)
        pairs = [(name, setting_text(name, value)) for name, value in (config or {}).items()]
        call = self._native_admin.create_topic(_name(topic), partitions, replication, pairs)
        taken = TopicAlreadyExists if exist_ok else None
        return _Step(call, "making a topic", _happened, taken)

    def _delete_topic(self, topic: TopicName, missing_ok: bool) -> _Step[bool]:
        call = self._native_admin.delete_topic(_name(topic))
        taken = TopicNotFound if missing_ok else None
        return _Step(call, "deleting a topic", _happened, taken)

    def _alter_topic(
        self,
        topic: TopicName,
        partitions: int | None,
        config: Mapping[str, Setting] | None,
    ) -> _Step[None]:
        pairs = [
            (name, None if value is None else setting_text(name, value))
            for name, value in (config or {}).items()
        ]
        if partitions is None and not pairs:
            message = "nothing to change was named; give partitions or config"
            raise ValueError(message)
        call = self._native_admin.alter_topic(_name(topic), partitions, pairs)
        return _Step(call, "changing a topic", lambda told: None)

    def _groups(self) -> _Step[list[GroupSummary]]:
        call = self._native_admin.groups()
        return _Step(call, "listing groups", lambda told: [GroupSummary(*one) for one in told])

    def _group(self, name: str) -> _Step[GroupInfo]:
        def finish(told: tuple[Any, ...]) -> GroupInfo:
            state, protocol_type, assignor, coordinator, members, progress = told
            return GroupInfo(
                name,
                state,
                protocol_type,
                assignor,
                coordinator,
                tuple(_member(*one) for one in members),
                tuple(_progress(*one) for one in progress),
            )

        return _Step(self._native_admin.group(name), "describing a group", finish)

    def _delete_group(self, name: str, missing_ok: bool) -> _Step[bool]:
        call = self._native_admin.delete_group(name)
        taken = GroupNotFound if missing_ok else None
        return _Step(call, "deleting a group", _happened, taken)

    def _reset_offsets(
        self,
        group: str,
        topics: Resettable | Iterable[Resettable] | None,
        to: str | int | datetime | None,
        shift: int | None,
        dry_run: bool,
    ) -> _Step[list[PlannedOffset]]:
        call = self._native_admin.reset_offsets(
            group, _places(topics), _target(to, shift), dry_run
        )
        return _Step(
            call,
            "resetting offsets",
            lambda told: [
                PlannedOffset(topic, partition, before, after)
                for (topic, partition), before, after in told
            ],
        )

    def _scheduled(
        self,
        topics: TopicName | Iterable[TopicName] | None,
        before: str | datetime | None,
        limit: int | None,
    ) -> _Step[list[ScheduledMessage]]:
        names = None if topics is None else [_name(topic) for topic in topic_list(topics)]
        call = self._native_admin.entries(names, "scheduled", _until(before), _most(limit))
        return _Step(
            call, "listing what waits", lambda told: [scheduled_message(*one) for one in told]
        )

    def _half_messages(
        self, topics: TopicName | Iterable[TopicName] | None, parked: bool, limit: int | None
    ) -> _Step[list[ScheduledMessage]]:
        names = None if topics is None else [_name(topic) for topic in topic_list(topics)]
        call = self._native_admin.entries(names, "parked" if parked else "half", None, _most(limit))
        return _Step(
            call, "listing half messages", lambda told: [scheduled_message(*one) for one in told]
        )

    def _schedule(self, handle: ScheduleId) -> _Step[ScheduledMessage | None]:
        def finish(told: tuple[Any, ...] | None) -> ScheduledMessage | None:
            return None if told is None else scheduled_message(*told)

        return _Step(self._native_admin.entry(handle_of(handle)), "asking for a record", finish)

    def _alter_entry(self, handle: ScheduleId, operation: tuple[str, int]) -> _Step[None]:
        known = handle_of(handle)
        call = self._native_admin.alter_entry(known, operation)
        return _Step(call, "altering a record", lambda offset: check_altered(known, offset))

    def _cluster(self) -> _Step[ClusterInfo]:
        def finish(told: tuple[str, int, list[Any]]) -> ClusterInfo:
            cluster_id, controller, brokers = told
            return ClusterInfo(cluster_id, controller, tuple(BrokerInfo(*one) for one in brokers))

        return _Step(self._native_admin.cluster(), "describing the cluster", finish)

    def _log_dirs(self) -> _Step[list[LogDir]]:
        def finish(told: list[Any]) -> list[LogDir]:
            return [
                LogDir(broker, path, total, usable, tuple(LogSize(*log) for log in logs))
                for broker, path, total, usable, logs in told
            ]

        return _Step(self._native_admin.log_dirs(), "describing log directories", finish)

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else self._bootstrap
        return f"<mainspring.{type(self).__name__} {state}>"

    def __reduce__(self) -> str:
        message = f"a {type(self).__name__} cannot be pickled; make one in the other process"
        raise TypeError(message)


class Admin(AdminCore):
    """Makes, describes, changes and deletes topics and groups, of any Kafka-protocol broker.

    Args:
        bootstrap: Brokers to ask first, `"HOST:PORT,HOST:PORT"` or a list of them. By default those of
            the variable `MAINSPRING_BOOTSTRAP`, else `127.0.0.1:9092`.
        config: Settings by Kafka's names, such as `{"default.api.timeout.ms": 10000}`.
        settings: The same as keywords.

    Raises:
        ConfigError: A setting is unknown, given twice, or out of its bounds.

    >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
    ...     admin.create_topic("orders", partitions=6, config={"retention.ms": 60000})
    ...     [(topic.name, topic.partitions) for topic in admin.topics()]
    True
    [('orders', 6)]
    """

    def topics(self, *, internal: bool = False) -> list[TopicInfo]:
        """Describes all topics, in the order of their names.

        Args:
            internal: Whether the broker's own are among them.
        """
        return _wait(self._topics(internal))

    def topic(self, topic: TopicName) -> TopicInfo:
        """Describes a topic, its settings too.

        Raises:
            TopicNotFound: There is none of that name.

        >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     _ = admin.create_topic("orders", config={"retention.ms": 60000})
        ...     admin.topic("orders").config
        {'retention.ms': '60000'}
        """
        return _wait(self._topic(topic))

    def create_topic(
        self,
        topic: TopicName,
        *,
        partitions: int | None = None,
        replication: int | None = None,
        config: Mapping[str, Setting] | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """Makes a topic, and returns whether it is new.

        Args:
            topic: Its name, or a typed topic.
            partitions: How many it has; by default the broker's `num.partitions`.
            replication: How many copies of each there are; by default the broker's.
            config: Settings of the topic by Kafka's names, such as `{"retention.ms": 60000}`.
            exist_ok: Whether it may be there already, however it is made.

        Raises:
            TopicAlreadyExists: It is there, and `exist_ok` is not set.
            KafkaError: The broker refuses the name, a number or a setting.
        """
        return _wait(self._create_topic(topic, partitions, replication, config, exist_ok))

    def delete_topic(self, topic: TopicName, *, missing_ok: bool = False) -> bool:
        """Deletes a topic with all it holds, and returns whether it was there.

        Raises:
            TopicNotFound: There is none of that name, and `missing_ok` is not set.

        >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     admin.delete_topic("orders", missing_ok=True)
        False
        """
        return _wait(self._delete_topic(topic, missing_ok))

    def alter_topic(
        self,
        topic: TopicName,
        *,
        partitions: int | None = None,
        config: Mapping[str, Setting] | None = None,
    ) -> None:
        """Adds partitions to a topic, or changes its settings.

        Args:
            topic: Its name, or a typed topic.
            partitions: How many it shall have, more than it has.
            config: Settings of the topic by Kafka's names; `None` takes one back to its default.

        Raises:
            TopicNotFound: There is none of that name.
            KafkaError: The broker refuses the number or a setting.
        """
        _wait(self._alter_topic(topic, partitions, config))

    def groups(self) -> list[GroupSummary]:
        """Lists all groups, in the order of their names."""
        return _wait(self._groups())

    def group(self, name: str) -> GroupInfo:
        """Describes a group, its members, and how far it has come.

        Raises:
            GroupNotFound: There is none of that name.
        """
        return _wait(self._group(name))

    def delete_group(self, name: str, *, missing_ok: bool = False) -> bool:
        """Deletes a group that has no members, with its offsets, and returns whether it was there.

        Raises:
            GroupNotEmpty: It has members.
            GroupNotFound: There is none of that name, and `missing_ok` is not set.
        """
        return _wait(self._delete_group(name, missing_ok))

    def reset_offsets(
        self,
        group: str,
        topics: Resettable | Iterable[Resettable] | None = None,
        *,
        to: str | int | datetime | None = None,
        shift: int | None = None,
        dry_run: bool = False,
    ) -> list[PlannedOffset]:
        """Has a group without members go on elsewhere, and returns what is stored for it then.

        Offsets outside of a partition are brought to its nearer end.

        Args:
            group: The group; one that is not there is made by this.
            topics: Topics or partitions, one or many; by default all that the group has offsets of.
            to: "earliest", "latest", as long ago as "-1h" says (s, m, h or d), an offset, or a `datetime`
                with a zone.
            shift: In place of `to`: so many records onwards, or back where it is negative.
            dry_run: Whether nothing is stored, so that the plan can be looked at.

        Raises:
            GroupNotEmpty: It has members.
            GroupNotFound: There is none of that name, and no topic was named.
            NoStoredOffset: A shift where nothing is stored.

        >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     _ = admin.create_topic("orders")
        ...     admin.reset_offsets("billing", "orders", to="earliest", dry_run=True)
        [PlannedOffset(topic='orders', partition=0, before=None, after=0)]
        """
        return _wait(self._reset_offsets(group, topics, to, shift, dry_run))

    def scheduled(
        self,
        topics: TopicName | Iterable[TopicName] | None = None,
        *,
        before: str | datetime | None = None,
        limit: int | None = None,
    ) -> list[ScheduledMessage]:
        """Lists the records that wait for their time, the next one first.

        Args:
            topics: One topic or many; by default all.
            before: Only those due by then: a `datetime` with a zone, or as far from now as "+1h" says (s, m,
                h or d).
            limit: At most so many.

        Raises:
            TopicNotFound: There is none of that name.
            UnsupportedByBroker: The broker is not of Mainspring.

        >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     _ = admin.create_topic("reminders", config={"mainspring.features": "schedule"})
        ...     with mainspring.Producer(broker.bootstrap) as producer:
        ...         _ = producer.send("reminders", b"hi", delay=60, id="dentist")
        ...     [(one.id, one.state) for one in admin.scheduled("reminders", before="+1h")]
        [('dentist', 'scheduled')]
        """
        return _wait(self._scheduled(topics, before, limit))

    def half_messages(
        self,
        topics: TopicName | Iterable[TopicName] | None = None,
        *,
        parked: bool = False,
        limit: int | None = None,
    ) -> list[ScheduledMessage]:
        """Lists half messages without a verdict.

        Args:
            topics: One topic or many; by default all.
            parked: Only those about which the broker asks no more.
            limit: At most so many.

        Raises:
            TopicNotFound: There is none of that name.
            UnsupportedByBroker: The broker is not of Mainspring.
        """
        return _wait(self._half_messages(topics, parked, limit))

    def schedule(self, handle: ScheduleId) -> ScheduledMessage | None:
        """Tells how a record stands that waits, or did within the last day; `None` where nothing is known of
        it."""
        return _wait(self._schedule(handle))

    def reschedule(
        self,
        handle: ScheduleId,
        *,
        delay: Delay | None = None,
        deliver_at: datetime | int | None = None,
    ) -> None:
        """Gives a record that waits another time.

        Args:
            handle: Its `schedule_id`.
            delay: Seconds from now, or a `timedelta`.
            deliver_at: In place of it: a `datetime` with a zone, or milliseconds since 1970.

        Raises:
            AlreadyDelivered: It has come.
            KafkaError: Nothing is known of it, or an open transaction decides about it.
        """
        _wait(self._alter_entry(handle, new_time(delay, deliver_at)))

    def deliver_now(self, handle: ScheduleId) -> None:
        """Delivers a record now that waits.

        Raises:
            AlreadyDelivered: It has come.
            KafkaError: Nothing is known of it, or an open transaction decides about it.
        """
        _wait(self._alter_entry(handle, ("deliver-now", 0)))

    def cluster(self) -> ClusterInfo:
        """Describes the cluster: its id, its controller and its brokers.

        >>> with mainspring.Broker(node_id=7) as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     admin.cluster().controller
        7
        """
        return _wait(self._cluster())

    def log_dirs(self) -> list[LogDir]:
        """Describes the directories in which brokers keep logs, and the size of each log."""
        return _wait(self._log_dirs())

    def close(self) -> None:
        """Ends it. What is not done fails. Closing it again does nothing."""
        self._close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _wait(step: _Step[T]) -> T:
    # Its own time limits end it; Ctrl-C does so before.
    step.call.wait(None)
    return step.result()


def _happened(told: object) -> bool:
    """Whether something was done, where an error may be the answer too."""
    return not isinstance(told, Exception)


def _name(topic: TopicName) -> str:
    if isinstance(topic, Topic):
        return topic.name
    if not isinstance(topic, str):
        message = f"a topic is a str or a Topic, and not a {type(topic).__name__}"
        raise TypeError(message)
    return topic


def _topic(
    name: str, topic_id: str, internal: bool, partitions: list[Any], config: dict[str, str | None]
) -> TopicInfo:
    details = (
        PartitionInfo(number, leader, epoch, tuple(replicas), tuple(isr), *ends)
        for number, leader, epoch, replicas, isr, *ends in partitions
    )
    return TopicInfo(name, topic_id, internal, tuple(details), config)


def _member(
    member_id: str, instance_id: str | None, client_id: str, host: str, places: list[Any]
) -> GroupMember:
    partitions = tuple(TopicPartition(*place) for place in places)
    return GroupMember(member_id, instance_id, client_id, host, partitions)


def _progress(place: tuple[str, int], *row: Any) -> GroupProgress:
    topic, partition = place
    return GroupProgress(topic, partition, *row)


def _places(topics: Resettable | Iterable[Resettable] | None) -> dict[str, list[int] | None]:
    """The partitions of each topic, `None` for all of them."""
    if topics is None:
        return {}
    many: Any = [topics] if isinstance(topics, str | Topic) or _is_place(topics) else topics
    places: dict[str, list[int] | None] = {}
    for item in many:
        if isinstance(item, str | Topic):
            places[_name(item)] = None
            continue
        if not _is_place(item):
            message = f"a partition is a TopicPartition or a pair of topic and number, and not {item!r}"
            raise TypeError(message)
        topic, partition = item
        known = places.setdefault(_name(topic), [])
        if known is not None:
            known.append(partition)
    return places


def _is_place(item: object) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str | Topic)
        and isinstance(item[1], int)
    )


_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _most(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        message = f"the limit {limit} is below 0"
        raise ValueError(message)
    return limit


def _until(before: str | datetime | None) -> int | None:
    if before is None:
        return None
    if isinstance(before, datetime):
        return _millis(before)
    if not isinstance(before, str):
        message = f'before is a datetime or a text such as "+1h", and not a {type(before).__name__}'
        raise TypeError(message)
    ahead = re.fullmatch(r"\+(\d{1,9})([smhd])", before)
    if ahead is None:
        message = f'{before!r} is no time; use "+1h" or a datetime'
        raise ValueError(message)
    return int(time.time() * 1000) + int(ahead[1]) * _UNITS[ahead[2]]


def _target(to: str | int | datetime | None, shift: int | None) -> tuple[str, int]:
    if (to is None) == (shift is None):
        message = "say where the group is to go on: either to or shift"
        raise ValueError(message)
    if shift is not None:
        return "shift", shift
    if isinstance(to, datetime):
        return "time", _millis(to)
    if isinstance(to, int) and not isinstance(to, bool):
        if to < 0:
            message = f"the offset {to} is below 0; shift={to} goes back by records"
            raise ValueError(message)
        return "offset", to
    known = {"earliest": "earliest", "start": "earliest", "latest": "latest", "end": "latest"}
    if to in known:
        return known[str(to)], 0
    ago = re.fullmatch(r"-(\d{1,9})([smhd])", str(to))
    if ago is None:
        message = f'{to!r} is no place in a topic; use "earliest", "latest", "-1h", an offset or a datetime'
        raise ValueError(message)
    return "time", max(0, int(time.time() * 1000) - int(ago[1]) * _UNITS[ago[2]])
