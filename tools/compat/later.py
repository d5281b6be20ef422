"""Records that come later, asked for by headers alone: delayed, cancelled, and half messages.

Every client writes them as it writes anything else; every client reads what came of them, over offsets at
which no record is ever seen, by assignment, from a time, and as a member of a group.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from broker import Elsewhere
from common import Record
from groups import Session, Stuck

if TYPE_CHECKING:
    from run import Runner

DELAY_MS = 500
HOUR_MS = 3_600_000
# What is sent, in this order: a value, and what its headers ask for.
SENT: list[tuple[bytes, dict[str, str]]] = [
    (b"1 plain", {}),
    (b"2 delayed", {"mainspring-delay-ms": str(DELAY_MS)}),
    (b"3 cancelled", {"mainspring-delay-ms": str(HOUR_MS), "mainspring-id": "cancelled"}),
    (b"4 committed", {"mainspring-half": "compat", "mainspring-id": "committed"}),
    (b"5 rolled back", {"mainspring-half": "compat", "mainspring-id": "rolled back"}),
    (b"6 plain", {}),
]
COMMANDS: list[tuple[bytes, dict[str, str]]] = [
    (b"command", {"mainspring-op": "cancel", "mainspring-id": "cancelled"}),
    (b"command", {"mainspring-op": "commit", "mainspring-id": "committed"}),
    (b"command", {"mainspring-op": "rollback", "mainspring-id": "rolled back"}),
]
PLAIN = [b"1 plain", b"6 plain"]
COME = [b"2 delayed", b"4 committed"]
TICKET = "mainspring-ticket"
PATIENCE = 30


def run(runner: Runner) -> None:
    """Every client writes, and every client reads."""
    if isinstance(runner.broker, Elsewhere):
        runner.checks.skip("records that come later", "another broker has none")
        return
    topics = {client: f"later.{client}.{runner.stamp}" for client in runner.clients}
    make_topics(runner, list(topics.values()))
    start = int(time.time() * 1000) - 1_000_000
    sent = records(SENT, start)
    answers = write(runner, topics, sent)
    commands = write(runner, {client: topics[client] for client in answers}, records(COMMANDS, start))
    tickets = {}
    for client, offsets in answers.items():
        more = commands.get(client)
        if more is None:
            continue
        # A client that is told no offsets says so by nulls.
        told = [offset for offset in offsets + more if offset is not None]
        grows = all(one < two for one, two in zip(told, told[1:], strict=False))
        runner.checks.note(f"offsets told to {client}", None if grows else f"{told}")
        tickets[client] = dict(zip((value for value, _ in SENT), offsets, strict=True))
    read(runner, {client: topics[client] for client in tickets}, tickets)
    written = next(iter(tickets), None)
    if written is not None:
        look_up(runner, topics[written], start, tickets[written][PLAIN[1]])
        for client in runner.readers("a group over holes"):
            if "session" in runner.programs[client].roles:
                in_a_group(runner, client, topics[written])


def records(asked: list[tuple[bytes, dict[str, str]]], start: int) -> list[Record]:
    """Makes records of values and headers, a second apart."""
    return [
        Record(
            0,
            b"key",
            value,
            [(name, text.encode()) for name, text in headers.items()],
            start + 1000 * at,
        )
        for at, (value, headers) in enumerate(asked)
    ]


def make_topics(runner: Runner, names: list[str]) -> None:
    """Makes topics whose records may come later."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": runner.broker.bootstrap, "log_level": 0})
    features = {"mainspring.features": "schedule,half"}
    made = admin.create_topics([NewTopic(name, 1, 1, config=features) for name in names])
    for future in made.values():
        future.result(20)


def write(runner: Runner, topics: dict[str, str], sent: list[Record]) -> dict[str, list[int | None]]:
    """Lets every client write the same to a topic of its own, and returns the offsets that it was told."""
    calls = []
    for client, topic in topics.items():
        plan = {"codec": "none", "acks": "all", "records": [one.to_json() for one in sent]}
        calls.append((client, "write", {"topics": {topic: plan}}))
    found = {}
    for (client, _, job), result in zip(calls, runner.several(calls), strict=True):
        failed = isinstance(result, Exception)
        runner.checks.note(f"records that come later, sent by {client}", str(result) if failed else None)
        if not failed:
            found[client] = next(iter(result["sent"].values()))
    return found


def read(runner: Runner, topics: dict[str, str], tickets: dict[str, dict]) -> None:
    """Lets every client read what came of it. A reader that follows comes first, so that all of it is there."""
    count = len(PLAIN) + len(COME)
    job = {"topics": {topic: {"partitions": 1, "count": count} for topic in topics.values()}}
    readers = runner.readers("records that come later")
    follows = next(one for one in readers if not runner.programs[one].reads_to_the_end)
    results = {follows: runner.several([(follows, "read", job)])[0]}
    others = [one for one in readers if one != follows]
    if others:
        found = runner.several([(one, "read", job) for one in others])
        results.update(zip(others, found, strict=True))
    for reader, result in results.items():
        for writer, topic in topics.items():
            name = f"later.{writer} read by {reader}"
            if isinstance(result, Exception):
                runner.checks.note(name, str(result))
                continue
            found = [Record.from_json(one) for one in result["read"][topic]]
            runner.checks.note(name, wrong(found, tickets[writer]))


def wrong(found: list[Record], tickets: dict[bytes, int | None]) -> str | None:
    """Says what is wrong with what was read, if anything."""
    offsets = {record.value: record.offset for record in found}
    if sorted(offsets) != sorted(PLAIN + COME) or len(found) != len(offsets):
        return f"read {[record.value for record in found]}"
    for record in found:
        ticket = tickets[record.value]
        headers = dict(record.headers)
        if record.value in PLAIN and ticket is not None and record.offset != ticket:
            return f"{record.value!r} acknowledged at {ticket}, read at {record.offset}"
        if record.value in COME:
            if ticket is not None and headers.get(TICKET) != b"%d" % ticket:
                return f"{record.value!r} has the ticket {ticket}, and the headers {headers}"
            if record.offset <= max(offsets[value] for value in PLAIN):
                return f"{record.value!r} came at {record.offset}, before what was sent behind it"
    return None


def look_up(runner: Runner, topic: str, start: int, wanted: int | None) -> None:
    """Every client finds the first record behind offsets without one, and reads there."""
    readers = runner.readers("a time behind a hole")
    job = {"questions": [(topic, 0, start + 1)]}
    calls = [(client, "lookup", {**job, "reads": client in readers}) for client in runner.clients]
    for (client, _, asked), result in zip(calls, runner.several(calls), strict=True):
        name = f"a time behind a hole, {client}"
        if isinstance(result, Exception):
            runner.checks.note(name, str(result))
            continue
        ((offset, record),) = result["answers"]
        value = Record.from_json(record).value if record else None
        good = wanted in (offset, None) and (value == PLAIN[1] or not asked["reads"])
        runner.checks.note(name, None if good else f"found {offset} with {value!r}")


def in_a_group(runner: Runner, client: str, topic: str) -> None:
    """A member reads all of it, commits, and has no lag then."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    name = f"a group over holes, {client}"
    group = f"later.group.{client}.{runner.stamp}"
    job = {
        "topic": topic,
        "group": group,
        "strategy": "range",
        "session_ms": 10_000,
        "heartbeat_ms": 200,
        "static": False,
    }
    session = Session(runner.programs[client], runner.broker.bootstrap, job)
    try:
        session.join(0)
        count = len(PLAIN) + len(COME)
        session.wait("records", lambda: len(session.records) >= count)
        session.commit_some(0)
        session.leave(0)
    except Stuck as problem:
        runner.checks.note(name, str(problem))
        return
    finally:
        session.close()
    admin = AdminClient({"bootstrap.servers": runner.broker.bootstrap, "log_level": 0})
    ends = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()})
    end = next(iter(ends.values())).result(20).offset
    committed = session.committed.get(0)
    problem = None if committed == end else f"committed {committed}, the end is {end}"
    if len(session.records) != count:
        problem = f"read {session.records}"
    runner.checks.note(name, problem)
