"""Half messages: kept by the broker and shown to nobody until their verdict, and who is asked where none comes."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mainspring import _native
from mainspring._client import topic_name, wait
from mainspring._later import Delay, ScheduleId, check_altered, delay_millis, helper
from mainspring._types import Headers
from mainspring.errors import (
    AlreadyDelivered,
    ConfigError,
    MainspringError,
    TopicAlreadyExists,
    TransactionStateError,
)

if TYPE_CHECKING:
    from mainspring._consumer import Consumer
    from mainspring._producer import Producer, ProducerCore
    from mainspring._topic import Topic

__all__ = ["COMMIT", "ROLLBACK", "UNKNOWN", "Half", "HalfMessage", "TxStatus"]

_log = logging.getLogger("mainspring")
# What the name of a check group may be: it is a part of a topic's name.
_GROUP = re.compile(r"[A-Za-z0-9._-]{1,242}")
# States in which a verdict is still wanted.
_OPEN = ("half", "parked")
# Pauses before a checker that fails begins again, in seconds.
PAUSE_FIRST, PAUSE_LAST = 1.0, 30.0


class TxStatus(Enum):
    """What a checker answers: the message comes, it never comes, or ask again."""

    COMMIT = "commit"
    ROLLBACK = "rollback"
    UNKNOWN = "unknown"


COMMIT = TxStatus.COMMIT
ROLLBACK = TxStatus.ROLLBACK
UNKNOWN = TxStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class HalfMessage:
    """A half message whose verdict has not come, as a checker is asked about it."""

    schedule_id: ScheduleId
    """Where it waits."""
    id: str
    """What its producer calls it."""
    value: bytes | None
    """Its value."""
    headers: Headers
    """The headers that its producer gave it."""
    attempt: int
    """How often it was asked about, this time included."""
    max_attempts: int
    """After so many the broker asks no more."""
    is_parked: bool
    """Whether this is the last time. Without a verdict it stays, and `Admin.half_messages` lists it."""


Checker = Callable[[HalfMessage], TxStatus]
HeaderPairs = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]


def check_group(group: str | None, checker: Any) -> None:
    """Refuses a check group that is none, and a checker that nobody would ask."""
    if checker is not None and not callable(checker):
        message = f"a checker is called with a HalfMessage, and {checker!r} cannot be called"
        raise TypeError(message)
    if checker is not None and group is None:
        message = (
            'a checker needs a producer_group, such as producer_group="orders": whoever has it is asked '
            "about the half messages of all that have it"
        )
        raise ConfigError(message)
    if group is not None and not _GROUP.fullmatch(group):
        message = f"producer_group is 1 to 242 of A-Z, a-z, 0-9, '.', '_' and '-', and not {group!r}"
        raise ConfigError(message)


class HalfCore:
    """What half messages of threads and those of event loops share."""

    _BLOCK = "with producer.half(...) as half:"
    _state = "new"

    def __init__(
        self,
        producer: ProducerCore,
        topic: str | Topic[Any, Any],
        value: Any,
        key: Any,
        headers: HeaderPairs | None,
        check_after: Delay | None,
        id: str | bytes | None,
        **more: Any,
    ) -> None:
        group = producer._producer_group
        if group is None:
            message = (
                "this producer has no producer_group, and so nobody would be asked about a half message "
                'whose verdict does not come; make one by Producer(..., producer_group="orders", checker=...)'
            )
            raise ConfigError(message)
        if producer.transactional_id is not None:
            message = (
                "a producer with a transactional_id sends no half messages, which are in no transaction; use "
                "another producer for them"
            )
            raise TransactionStateError(message)
        if dict(producer._settings).get("acks") == "0":
            message = (
                "with acks=0 nobody is told where a half message waits, so that its verdict cannot be given; use "
                'another producer, with acks="all"'
            )
            raise ConfigError(message)
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        pairs.append(("mainspring-half", group))
        if check_after is not None:
            pairs.append(("mainspring-check-after-ms", str(delay_millis(check_after))))
        self._producer = producer
        self._topic = topic
        self._name = topic_name(topic)
        self._more = {**more, "headers": pairs, "id": uuid.uuid4().hex if id is None else id}
        self._payload = (value, key)
        self._schedule_id: ScheduleId | None = None

    @property
    def schedule_id(self) -> ScheduleId:
        """Where it waits.

        Raises:
            TransactionStateError: It was not sent yet: the block does that.
        """
        if self._schedule_id is None:
            message = f"this half message was not sent; use it by `{self._BLOCK}`"
            raise TransactionStateError(message)
        return self._schedule_id

    def unknown(self) -> None:
        """Leaves the verdict to the checker: the end of the block gives none."""
        self._must_be_open()
        self._state = "unknown"

    def _must_be_new(self) -> None:
        if self._state != "new":
            message = "this half message was sent already; each is used once"
            raise TransactionStateError(message)

    def _must_be_open(self) -> None:
        if self._state == "new":
            message = f"this half message was not sent; use it by `{self._BLOCK}`"
            raise TransactionStateError(message)
        if self._state != "open":
            message = f"this half message has its verdict ({self._state}), and the first one is final"
            raise TransactionStateError(message)

    def _send(self) -> _native.Delivery:
        value, key = self._payload
        return self._producer.send(self._topic, value, key, **self._more)

    def _sent(self, stored: _native.RecordMetadata) -> None:
        self._schedule_id = stored.schedule_id
        self._state = "open"

    def _verdict(self, status: TxStatus) -> _native.Call:
        self._must_be_open()
        call = self._producer._admin().alter_entry(self.schedule_id, (status.value, 0))
        # From here on it may have been given, and an exception must not give another one.
        self._state = status.value
        return call

    def _gives(self, error: BaseException | None) -> TxStatus | None:
        """The verdict that the end of the block gives, if any."""
        if self._state != "open":
            return None
        if error is None:
            return COMMIT
        # Whoever was only stopped may have committed before; whoever looks into the database knows.
        return ROLLBACK if isinstance(error, Exception) else None

    def __repr__(self) -> str:
        return f"<mainspring.{type(self).__name__} {self._state}>"


def note_rollback(error: BaseException, problem: MainspringError) -> None:
    """Adds to what ended a block that its half message still waits for a verdict."""
    if isinstance(problem, AlreadyDelivered):
        error.add_note(f"the half message was not rolled back: it had been let out before; {problem}")
    else:
        error.add_note(f"the half message was not rolled back either, and is left to the checker: {problem}")


class Half(HalfCore):
    """A half message: `with producer.half(...) as half:` sends it, and nobody sees it. The end of the block lets
    it out, an exception takes it back. Where neither comes, the broker asks the checker.

    >>> def check(half: mainspring.HalfMessage) -> mainspring.TxStatus:
    ...     return mainspring.ROLLBACK
    >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
    ...     _ = admin.create_topic("paid", config={"mainspring.features": "half"})
    ...     with mainspring.Producer(broker.bootstrap, producer_group="shop", checker=check) as producer:
    ...         with producer.half("paid", b"{}", headers={"order": b"42"}) as half:
    ...             print([one.state for one in admin.half_messages("paid")])
    ...     admin.schedule(half.schedule_id).state
    ['half']
    'committed'
    """

    _producer: Producer

    def commit(self) -> None:
        """Lets it out before the end of the block, which then does nothing more.

        Raises:
            KafkaError: It was rolled back before.
            OperationTimeout: No answer has come; the checker is asked where it was not done.
        """
        check_altered(self.schedule_id, wait(self._verdict(COMMIT), None, "the verdict"))

    def rollback(self) -> None:
        """Takes it back before the end of the block, which then does nothing more: it never comes.

        Raises:
            AlreadyDelivered: It was let out before.
            OperationTimeout: No answer has come; the checker is asked where it was not done.
        """
        check_altered(self.schedule_id, wait(self._verdict(ROLLBACK), None, "the verdict"))

    def __enter__(self) -> Self:
        self._must_be_new()
        self._producer._need(self._name, "half")
        self._sent(self._send().result())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = self._gives(error)
        if status is COMMIT:
            self.commit()
        elif status is ROLLBACK and error is not None:
            try:
                self.rollback()
            except MainspringError as problem:
                note_rollback(error, problem)


class CheckerCore:
    """What the checkers of threads and those of event loops share. It knows nothing of the producer that it came
    with, which may be forgotten.
    """

    def __init__(self, bootstrap: str, settings: list[tuple[str, str]], group: str) -> None:
        self.topic = f"checks.{group}"
        self._bootstrap = bootstrap
        self._settings = settings

    def _consumes(self) -> dict[str, Any]:
        """How the questions are read: whoever has the check group shares them."""
        known = {
            name: value
            for name, value in self._settings
            if _native.explain_setting("consumer", name) is None
        }
        return {"topics": self.topic, "group": self.topic, "start": "earliest", "config": known}

    def _admin(self) -> _native.Admin:
        return helper(self._bootstrap, self._settings)

    def _make_topic(self, admin: _native.Admin) -> _native.Call:
        return admin.create_topic(self.topic, None, None, [("mainspring.features", "dedup")])


def read_question(message: _native.Message[Any, Any]) -> HalfMessage | None:
    """Reads a question; none where it is not the broker's."""
    headers = message.headers
    try:
        told = {
            name: (headers[f"mainspring-check-{name}"] or b"").decode()
            for name in ("topic", "partition", "ticket", "attempt", "max", "state")
        }
        where = ScheduleId(told["topic"], int(told["partition"]), int(told["ticket"]))
        attempt, most = int(told["attempt"]), int(told["max"])
    except (KeyError, ValueError):
        _log.warning(
            "topic %s, partition %d: the record %d is no question about a half message, and is passed over",
            message.topic,
            message.partition,
            message.offset,
        )
        return None
    name = (message.raw_key or b"").decode("utf-8", "replace")
    own = Headers(pair for pair in headers.pairs() if not pair[0].startswith("mainspring-"))
    return HalfMessage(where, name, message.raw, own, attempt, most, told["state"] == "parked")


def is_open(told: tuple[Any, ...] | None) -> bool:
    """Whether what is told of an entry says that it waits for a verdict."""
    return told is not None and told[6] in _OPEN


def check_status(half: HalfMessage, status: object) -> TxStatus:
    """What a checker has answered; unknown, with a word in the log, where it is no answer."""
    if isinstance(status, TxStatus):
        return status
    _log.error(
        "the checker answers mainspring.COMMIT, ROLLBACK or UNKNOWN, and not %r; %s", status, _left(half)
    )
    return UNKNOWN


def note_failure(half: HalfMessage) -> None:
    """Logs the exception at hand of a checker."""
    _log.exception("the checker has failed; %s", _left(half))


def note_refusal(half: HalfMessage, status: TxStatus, problem: MainspringError) -> None:
    """Logs that a verdict was not taken."""
    _log.warning("the verdict %s was not taken (%s); %s", status.value, problem, _left(half))


def note_restart(topic: str, pause: float, problem: BaseException) -> None:
    """Logs that questions cannot be read."""
    _log.warning("questions in %s cannot be answered (%s); tried again in %g s", topic, problem, pause)


def _left(half: HalfMessage) -> str:
    topic, partition, ticket = half.schedule_id
    then = "stays parked" if half.is_parked else "is asked about again"
    return f"the half message {half.id!r} ({partition}@{ticket} of {topic}) {then}"


class CheckerThread(CheckerCore):
    """Answers questions by a function, in a thread of its own."""

    def __init__(
        self, bootstrap: str, settings: list[tuple[str, str]], group: str, checker: Checker
    ) -> None:
        super().__init__(bootstrap, settings, group)
        self._checker = checker
        self._stopping = threading.Event()
        self._consumer: Consumer[bytes, bytes] | None = None
        self._asks: _native.Admin | None = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="mainspring-checker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Has it end after the question at hand."""
        self._stopping.set()
        # A forked child has no thread of its parent's.
        if self._process != os.getpid():
            return
        consumer, asks = self._consumer, self._asks
        if consumer is not None:
            consumer.stop()
        elif asks is not None:
            # No question is at hand; it waits for a broker to make the topic, perhaps for long.
            asks.close()

    def join(self, timeout: float) -> None:
        """Waits until it has ended, for so many seconds at most."""
        if threading.current_thread() is not self._thread and self._process == os.getpid():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = PAUSE_FIRST
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._serve()
                # Its consumer was stopped: by `stop`, or by the end of the interpreter.
                return
            except Exception as problem:
                if self._stopping.is_set():
                    return
                if time.monotonic() - begun > PAUSE_LAST:
                    pause = PAUSE_FIRST
                note_restart(self.topic, pause, problem)
                self._stopping.wait(pause)
                pause = min(pause * 2, PAUSE_LAST)

    def _serve(self) -> None:
        from mainspring._consumer import Consumer

        admin = self._asks = self._admin()
        try:
            if self._stopping.is_set():
                return
            try:
                wait(self._make_topic(admin), None, "making a topic")
            except TopicAlreadyExists:
                pass
            with Consumer(self._bootstrap, **self._consumes()) as consumer:
                self._consumer = consumer
                if self._stopping.is_set():
                    return
                for message in consumer:
                    half = read_question(message)
                    if half is not None:
                        self._answer(admin, half)
        finally:
            self._consumer = self._asks = None
            admin.close()

    def _answer(self, admin: _native.Admin, half: HalfMessage) -> None:
        status = UNKNOWN
        try:
            if not is_open(wait(admin.entry(half.schedule_id), None, "asking for a half message")):
                return
            try:
                status = check_status(half, self._checker(half))
            except BaseException:
                # Whatever it raises, SystemExit too, must not end the thread without a word.
                note_failure(half)
            if status is not UNKNOWN:
                call = admin.alter_entry(half.schedule_id, (status.value, 0))
                check_altered(half.schedule_id, wait(call, None, "the verdict"))
        except MainspringError as problem:
            note_refusal(half, status, problem)
