"""The administrator of event loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from mainspring._admin import (
    AdminCore,
    ClusterInfo,
    GroupInfo,
    GroupSummary,
    LogDir,
    PlannedOffset,
    Resettable,
    TopicInfo,
    TopicName,
    _Step,
)
from mainspring._config import Setting
from mainspring._later import Delay, ScheduledMessage, ScheduleId, new_time
from mainspring.aio import _loop

__all__ = ["Admin"]

T = TypeVar("T")


class Admin(AdminCore):
    """Makes, describes, changes and deletes topics and groups, from an event loop.

    The arguments and the methods are those of `mainspring.Admin`, awaited. A cancelled `await` gives up
    the waiting, and never what was asked for.

    >>> async def main():
    ...     with mainspring.Broker() as broker:
    ...         async with mainspring.aio.Admin(broker.bootstrap) as admin:
    ...             await admin.create_topic("orders", partitions=3)
    ...             return (await admin.topic("orders")).partitions
    >>> asyncio.run(main())
    3
    """

    async def topics(self, *, internal: bool = False) -> list[TopicInfo]:
        """Describes all topics, as `mainspring.Admin.topics` does."""
        return await _wait(self._topics(internal))

    async def topic(self, topic: TopicName) -> TopicInfo:
        """Describes a topic, as `mainspring.Admin.topic` does."""
        return await _wait(self._topic(topic))

    async def create_topic(
        self,
        topic: TopicName,
        *,
        partitions: int | None = None,
        replication: int | None = None,
        config: Mapping[str, Setting] | None = None,
        exist_ok: bool = False,
    ) -> bool:
        """Makes a topic, as `mainspring.Admin.create_topic` does."""
        return await _wait(self._create_topic(topic, partitions, replication, config, exist_ok))

    async def delete_topic(self, topic: TopicName, *, missing_ok: bool = False) -> bool:
        """Deletes a topic, as `mainspring.Admin.delete_topic` does."""
        return await _wait(self._delete_topic(topic, missing_ok))

    async def alter_topic(
        self,
        topic: TopicName,
        *,
        partitions: int | None = None,
        config: Mapping[str, Setting] | None = None,
    ) -> None:
        """Adds partitions or changes settings, as `mainspring.Admin.alter_topic` does."""
        await _wait(self._alter_topic(topic, partitions, config))

    async def groups(self) -> list[GroupSummary]:
        """Lists all groups, as `mainspring.Admin.groups` does."""
        return await _wait(self._groups())

    async def group(self, name: str) -> GroupInfo:
        """Describes a group, as `mainspring.Admin.group` does."""
        return await _wait(self._group(name))

    async def delete_group(self, name: str, *, missing_ok: bool = False) -> bool:
        """Deletes a group, as `mainspring.Admin.delete_group` does."""
        return await _wait(self._delete_group(name, missing_ok))

    async def reset_offsets(
        self,
        group: str,
        topics: Resettable | Iterable[Resettable] | None = None,
        *,
        to: str | int | datetime | None = None,
        shift: int | None = None,
        dry_run: bool = False,
    ) -> list[PlannedOffset]:
        """Has a group go on elsewhere, as `mainspring.Admin.reset_offsets` does."""
        return await _wait(self._reset_offsets(group, topics, to, shift, dry_run))

    async def scheduled(
        self,
        topics: TopicName | Iterable[TopicName] | None = None,
        *,
        before: str | datetime | None = None,
        limit: int | None = None,
    ) -> list[ScheduledMessage]:
        """Lists the records that wait for their time, as `mainspring.Admin.scheduled` does."""
        return await _wait(self._scheduled(topics, before, limit))

    async def half_messages(
        self,
        topics: TopicName | Iterable[TopicName] | None = None,
        *,
        parked: bool = False,
        limit: int | None = None,
    ) -> list[ScheduledMessage]:
        """Lists half messages without a verdict, as `mainspring.Admin.half_messages` does."""
        return await _wait(self._half_messages(topics, parked, limit))

    async def schedule(self, handle: ScheduleId) -> ScheduledMessage | None:
        """Tells how a record stands that waits, as `mainspring.Admin.schedule` does."""
        return await _wait(self._schedule(handle))

    async def reschedule(
        self,
        handle: ScheduleId,
        *,
        delay: Delay | None = None,
        deliver_at: datetime | int | None = None,
    ) -> None:
        """Gives a record that waits another time, as `mainspring.Admin.reschedule` does."""
        await _wait(self._alter_entry(handle, new_time(delay, deliver_at)))

    async def deliver_now(self, handle: ScheduleId) -> None:
        """Delivers a record now that waits, as `mainspring.Admin.deliver_now` does."""
        await _wait(self._alter_entry(handle, ("deliver-now", 0)))

    async def cluster(self) -> ClusterInfo:
        """Describes the cluster, as `mainspring.Admin.cluster` does."""
        return await _wait(self._cluster())

    async def log_dirs(self) -> list[LogDir]:
        """Describes log directories, as `mainspring.Admin.log_dirs` does."""
        return await _wait(self._log_dirs())

    async def close(self) -> None:
        """Ends it. What is not done fails. Closing it again does nothing."""
        self._close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _wait(step: _Step[T]) -> T:
    await _loop.done(step.call)
    return step.result()
