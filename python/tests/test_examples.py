"""The programs of examples/python run as they are, and type checkers find nothing in them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"

SAID = {
    "arrow_batches.py": r"20000 rows of 3 columns in .+\n",
    "exactly_once.py": r"1000 payments have 1000 receipts\n",
    "orders.py": r"100 orders of 7 customers are billed\n0 orders are left\n",
    "reminders.py": r"3 reminders wait\nbob: fetch the tea\nada: stand up\n0 reminders wait\n",
    "paid_orders.py": r"order 1 is paid\norder 3 is paid\nthe database has orders 1 and 3\n",
    "service.py": r"10 readings were watched\n",
}


def test_every_example_is_run():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(SAID)


@pytest.mark.parametrize("name", SAID)
def test_an_example_does_what_it_says(mainspring_broker, name, tmp_path):
    if name == "arrow_batches.py":
        pytest.importorskip("pyarrow")
    ran = subprocess.run(
        [sys.executable, "-X", "dev", str(EXAMPLES / name)],
        env={
            **os.environ,
            "MAINSPRING_BOOTSTRAP": mainspring_broker.bootstrap,
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(SAID[name], ran.stdout), ran.stdout


def test_a_service_publishes_what_its_example_says(mainspring_broker):
    alarms = [message.value for message in mainspring_broker.wait_for("alarms", 4)]
    assert alarms == [b'{"celsius":%d}' % celsius for celsius in range(21, 25)]


def test_examples_pass_the_strict_type_checker(tmp_path):
    pytest.importorskip("mypy")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", *sorted(EXAMPLES.glob("*.py"))],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


TYPED = """
import mainspring as ms
import mainspring.aio as msa
from mainspring.serde import Int64, Utf8

topic = ms.Topic("t", key=Utf8(), value=Int64())

def read(consumer: ms.Consumer[str, int]) -> None:
    for message in consumer:
        reveal_type(message)
    reveal_type(ms.Consumer(topics=topic))
    reveal_type(msa.Consumer(topics=[topic]))
    reveal_type(ms.Consumer(topics=topic).poll())
"""


def test_type_checkers_know_what_a_consumer_of_a_typed_topic_reads(tmp_path):
    pytest.importorskip("mypy")
    program = tmp_path / "typed.py"
    program.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    revealed = [line.split('"')[1] for line in said.splitlines() if "Revealed" in line]
    assert revealed == [
        "mainspring._native.Message[str, int]",
        "mainspring._consumer.Consumer[str, int]",
        "mainspring.aio._consumer.Consumer[str, int]",
        "mainspring._native.Message[str, int] | None",
    ]
