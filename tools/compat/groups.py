"""Consumer groups: what each client's members get, read and commit, over rebalances and a kill -9.

A scenario writes records itself, tells members what to do, and waits for what they report. Every
offset is committed before the next change, so that no record may come twice, and none may be left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable

import common
from programs import COOPERATIVE, RANGE, STATIC, Program

PARTITIONS = 6
PER_PARTITION = 10
SESSION_MS = 10_000
HEARTBEAT_MS = 200
PATIENCE = 60


class Stuck(Exception):
    """What was waited for did not come."""


class Session:
    """Members of one group in one process of a client program."""

    def __init__(self, program: Program, bootstrap: str, job: dict) -> None:
        self.name = program.name
        self.process = subprocess.Popen(
            program.arguments(bootstrap, "session"),
            env={**os.environ, **program.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.changed = threading.Condition()
        self.owned: dict[int, set[int]] = {}
        self.changes: dict[int, int] = {}
        self.emptied: set[int] = set()
        self.records: list[tuple[int, int]] = []
        self.committed: dict[int, int] = {}
        self.commits = 0
        self.left: set[int] = set()
        self.failure: str | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        self._tell(job)

    def _tell(self, line: dict) -> None:
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def _listen(self) -> None:
        for line in self.process.stdout:
            event = json.loads(line)
            with self.changed:
                self._note(event)
                self.changed.notify_all()
        with self.changed:
            if self.process.wait():
                self.failure = self.process.stderr.read()[-1000:]
            self.changed.notify_all()

    def _note(self, event: dict) -> None:
        kind, member = event.get("event"), event.get("member")
        if kind == "assigned":
            self.owned[member] = set(event["partitions"])
            self.changes[member] = self.changes.get(member, 0) + 1
            if not event["partitions"]:
                self.emptied.add(member)
        elif kind == "record":
            self.records.append((event["p"], event["o"]))
        elif kind == "committed":
            self.commits += 1
            for partition, offset in event["offsets"].items():
                self.committed[int(partition)] = offset
        elif kind == "left":
            self.owned.pop(member, None)
            self.left.add(member)
        elif kind == "failed":
            self.failure = f"{event['what']}: {event['why']}"

    def join(self, member: int) -> None:
        """Lets a member join; `shared` waits for it."""
        self.left.discard(member)
        self._tell({"do": "join", "member": member})

    def commit(self, count: int, *members: int) -> None:
        """Lets members commit until every partition stands at a count."""
        end = time.monotonic() + PATIENCE
        while True:
            with self.changed:
                self.committed.clear()
                wanted = self.commits + len(members)
            for member in members:
                self._tell({"do": "commit", "member": member})
            self.wait("commits", lambda: self.commits >= wanted)
            if self.committed == dict.fromkeys(range(PARTITIONS), count):
                return
            # A member that joined again reads again what was not committed.
            if time.monotonic() > end:
                message = f"{count} to commit of each partition, committed {self.committed}"
                raise Stuck(message)
            with self.changed:
                self.changed.wait(0.1)

    def commit_some(self, member: int) -> None:
        """Lets a member commit what it has read, and waits for it."""
        wanted = self.commits + 1
        self._tell({"do": "commit", "member": member})
        self.wait("a commit", lambda: self.commits >= wanted)

    def leave(self, *members: int) -> None:
        """Lets members leave and waits for it."""
        for member in members:
            self._tell({"do": "leave", "member": member})
        self.wait("leaving", lambda: self.left >= set(members))

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits until something holds."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure or holds(), PATIENCE)
            if self.failure or not holds():
                seen = f"owned {self.owned}, {len(self.records)} records"
                message = f"{what}: {self.failure or f'not after {PATIENCE} s'}; {seen}"
                raise Stuck(message)

    def shared(self, *members: int) -> None:
        """Waits until these members have all partitions, each once, and each at least one."""

        def holds() -> bool:
            owned = [self.owned.get(member, set()) for member in members]
            return all(owned) and sorted(one for some in owned for one in some) == list(range(PARTITIONS))

        self.wait(f"partitions shared by {members}", holds)

    def read(self, count: int, first: int = 0, again: int | None = None) -> None:
        """Waits until every partition's records up to a count were read, and none of them twice.

        From `again` on they may come twice: they were not committed when the broker was killed.
        """
        wanted = {(partition, offset) for partition in range(PARTITIONS) for offset in range(first, count)}
        self.wait(f"records {first} to {count}", lambda: set(self.records) >= wanted)
        once = [one for one in self.records if again is None or one[1] < again]
        if len(once) != len(set(once)):
            twice = sorted({one for one in once if once.count(one) > 1})
            message = f"{len(twice)} records came twice, the first is {twice[0]}"
            raise Stuck(message)

    def close(self) -> None:
        """Ends the process, and its members with it."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Scenario:
    """One group: what comes before the broker is killed, and what comes after."""

    def __init__(self, kind: str, runner, program: Program, strategy: str = "range") -> None:
        self.kind = kind
        self.runner = runner
        self.program = program
        self.topic = self.group = f"groups.{kind}.{program.name}.{runner.stamp}"
        self.written = 0
        self.job = {
            "topic": self.topic,
            "group": self.group,
            "strategy": strategy,
            "session_ms": SESSION_MS,
            "heartbeat_ms": HEARTBEAT_MS,
            "static": kind == "static",
        }
        self.session: Session | None = None

    def start(self) -> Session:
        """Starts the program."""
        self.session = Session(self.program, self.runner.broker.bootstrap, self.job)
        return self.session

    def write(self, count: int = PER_PARTITION) -> int:
        """Writes records to every partition, and returns how many each has then."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.runner.broker.bootstrap, "log_level": 0})
        for partition in range(PARTITIONS):
            for at in range(count):
                producer.produce(self.topic, common.numbered(self.written + at), partition=partition)
        if producer.flush(30):
            message = "records were not delivered"
            raise Stuck(message)
        self.written += count
        return self.written

    def note(self, what: str) -> None:
        """Counts one thing that held."""
        self.runner.checks.note(f"{what}, {self.program.name} ({self.kind})", None)

    def before(self) -> None:
        """What is done with the broker as it stands."""
        {"dynamic": self._three, "cooperative": self._three, "static": self._static}[self.kind]()

    def _three(self) -> None:
        session = self.start()
        count = self.write()
        session.join(0)
        session.shared(0)
        session.read(count)
        session.commit(count, 0)
        self.note("one member has every partition")
        session.emptied.clear()
        session.join(1)
        session.join(2)
        session.shared(0, 1, 2)
        if self.kind == "cooperative" and 0 in session.emptied:
            message = "a cooperative member gave up everything"
            raise Stuck(message)
        self.note("three members share")
        session.read(self.write())
        session.commit(self.written, 0, 1, 2)
        session.leave(1)
        session.shared(0, 2)
        session.read(self.write())
        session.commit(self.written, 0, 2)
        self.note("two of three go on")

    def _static(self) -> None:
        session = self.start()
        session.join(0)
        session.shared(0)
        session.join(1)
        session.shared(0, 1)
        session.read(self.write())
        session.commit(self.written, 0, 1)
        # A leader may ask for another round for a reason of its own, so there are some tries.
        for _ in range(4):
            had, changes = session.owned[1], session.changes[0]
            session.leave(1)
            session.join(1)
            session.shared(0, 1)
            session.read(self.write())
            session.commit(self.written, 0, 1)
            if (session.owned[1], session.changes[0]) == (had, changes):
                break
        else:
            message = f"came back to {session.owned[1]}, had {had}; the other has seen changes"
            raise Stuck(message)
        self.note("a static member comes back to its partitions, unnoticed")

    def after(self) -> None:
        """What is done once the broker was killed and has started again."""
        session = self.session
        members = (0, 1) if self.kind == "static" else (0, 2)
        before = self.written
        count = self.write()
        session.read(count, 0, before)
        session.shared(*members)
        session.commit(count, *members)
        self.note("members go on after kill -9")
        session.leave(*members)
        found = committed(self.runner.broker.bootstrap, self.group, self.topic)
        if found != dict.fromkeys(range(PARTITIONS), count):
            message = f"{count} committed of each partition, found {found}"
            raise Stuck(message)
        self.note("what was committed")
        session.records.clear()
        count = self.write(1)
        session.join(3)
        session.read(count, count - 1)
        if min(offset for _, offset in session.records) < count - 1:
            message = "a new member began below what was committed"
            raise Stuck(message)
        self.note("a new member begins where the others ended")
        session.leave(3)

    def end(self) -> None:
        """Ends the program."""
        if self.session:
            self.session.close()


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Returns what a group has committed of a topic, by the admin client of Confluent."""
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    found = asked[group].result(20).topic_partitions
    return {one.partition: one.offset for one in found if one.topic == topic}


def run(runner) -> None:
    """Runs every scenario at the same time, with one kill -9 in the middle."""
    scenarios = [Scenario("dynamic", runner, program) for program in runner.programs.values()]
    for name, program in runner.programs.items():
        if name in STATIC:
            scenarios.append(Scenario("static", runner, program))
        if name in COOPERATIVE:
            scenarios.append(Scenario("cooperative", runner, program, "cooperative-sticky"))
    runner.topics([scenario.topic for scenario in scenarios], PARTITIONS)
    try:
        alive = at_once(scenarios, Scenario.before)
        runner.broker.kill()
        runner.broker.start()
        at_once(alive, Scenario.after)
    finally:
        for scenario in scenarios:
            scenario.end()
    if len(RANGE & set(runner.programs)) > 1:
        mixed(runner)


def at_once(scenarios: list[Scenario], step: Callable[[Scenario], None]) -> list[Scenario]:
    """Runs one step of all scenarios at the same time, and returns those that came through."""
    good = []

    def one(scenario: Scenario) -> None:
        try:
            step(scenario)
        except (Stuck, OSError, RuntimeError) as error:
            name = f"group of {scenario.program.name} ({scenario.kind}), {step.__name__} the kill"
            scenario.runner.checks.note(name, str(error))
        else:
            good.append(scenario)

    threads = [threading.Thread(target=one, args=(scenario,)) for scenario in scenarios]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return good


def mixed(runner) -> None:
    """One group with a member of every client that knows the range assignor."""
    programs = [program for name, program in runner.programs.items() if name in RANGE]
    scenario = Scenario("mixed", runner, programs[0])
    runner.topics([scenario.topic], PARTITIONS)
    bootstrap = runner.broker.bootstrap
    sessions = [Session(program, bootstrap, scenario.job) for program in programs]
    try:
        for session in sessions:
            session.join(0)
        together(sessions, "all share")
        count = scenario.write()
        reading(sessions, count)
        for session in sessions:
            session.commit_some(0)
        scenario.note(f"{len(sessions)} clients in one group")
        sessions[0].leave(0)
        rest = sessions[1:]
        together(rest, "the others share")
        reading(sessions, scenario.write())
        scenario.note("the others take over")
    except Stuck as error:
        runner.checks.note("group of several clients", str(error))
    finally:
        for session in sessions:
            session.close()


def together(sessions: list[Session], what: str) -> None:
    """Waits until the members of several sessions have all partitions, each once."""

    def holds() -> bool:
        owned = [session.owned.get(0, set()) for session in sessions]
        return all(owned) and sorted(one for some in owned for one in some) == list(range(PARTITIONS))

    until(holds, lambda: f"{what}: {[(session.name, session.owned) for session in sessions]}")


def reading(sessions: list[Session], count: int) -> None:
    """Waits until every record was read by one of them."""
    wanted = PARTITIONS * count

    def holds() -> bool:
        return sum(len(session.records) for session in sessions) >= wanted

    until(holds, lambda: f"{wanted} wanted: {[(s.name, len(s.records)) for s in sessions]}")
    read = [record for session in sessions for record in session.records]
    if len(set(read)) != wanted or len(read) != wanted:
        message = f"{len(read)} read, {len(set(read))} of them different, {wanted} wanted"
        raise Stuck(message)


def until(holds: Callable[[], bool], why: Callable[[], str]) -> None:
    """Waits until something holds over several sessions."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise Stuck(why())
        time.sleep(0.05)
