"""Serializers, and topics with types."""

import enum
import pickle
import struct
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import mainspring
import pytest
from mainspring.errors import DeserializationError, SerializationError
from mainspring.serde import Bytes, Float64, Int32, Int64, Json, Nullable, Utf8


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Item:
    name: str
    count: int = 1


@dataclass
class Order:
    id: str
    amount: float
    items: list[Item]
    at: datetime
    day: date
    clock: time
    price: Decimal
    token: uuid.UUID
    size: Size
    note: str | None = None
    tags: frozenset[str] = frozenset()
    place: tuple[float, float] = (0.0, 0.0)
    by_name: dict[str, Item] = field(default_factory=dict)
    level: Literal[1, 2] = 1
    raw: bytes = b""
    anything: Any = None
    many: tuple[int, ...] = ()
    weight: Annotated[int, "grams"] = 0


ORDER = Order(
    id="o1",
    amount=9.5,
    items=[Item("tea", 2), Item("müsli")],
    at=datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
    day=date(2026, 1, 31),
    clock=time(12, 30),
    price=Decimal("9.50"),
    token=uuid.UUID(int=7),
    size=Size.LARGE,
    note="x",
    tags=frozenset({"a"}),
    place=(1.0, 2.0),
    by_name={"tea": Item("tea")},
    level=2,
    raw=b"\x00\xff",
    anything={"a": [1, None]},
    many=(1, 2, 3),
    weight=5,
)


@dataclass
class Node:
    value: int
    next: "Node | None" = None


class Person(TypedDict):
    name: str
    age: NotRequired[int]


def test_a_dataclass_is_read_back_as_what_it_was():
    json = Json(Order)
    assert json.deserialize(json.serialize(ORDER)) == ORDER


def test_a_type_may_hold_itself():
    json = Json(Node)
    chain = Node(1, Node(2, Node(3)))
    assert json.deserialize(json.serialize(chain)) == chain


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (dict[str, int], {"a": 1}, b'{"a":1}'),
        (list[Item], [Item("a")], b'[{"name":"a","count":1}]'),
        (int, 3, b"3"),
        (float, 3, b"3"),
        (str, "ü", '"ü"'.encode()),
        (dict, {"a": []}, b'{"a":[]}'),
        (list, [1, "a"], b'[1,"a"]'),
        (bool, True, b"true"),
        (Person, {"name": "till"}, b'{"name":"till"}'),
        (int | None, None, b"null"),
    ],
)
def test_plain_types_are_written_without_spaces(kind, value, text):
    json = Json(kind)
    assert json.serialize(value) == text
    assert json.deserialize(text) == value


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Item, Item(7), "$.name must be a string, and is 7"),
        (list[Item], [Item("a", 1.5)], r"$[0].count must be a whole number"),
        (dict[str, int], {"a": "x"}, "$.a must be a whole number"),
        (Person, {"age": 3}, "$.name is missing"),
    ],
)
def test_what_could_not_be_read_is_not_written(kind, value, expected):
    topic = mainspring.Topic("t", value=Json(kind))
    with pytest.raises(SerializationError) as caught:
        topic.serialize(value)
    assert expected in str(caught.value)


def test_without_a_type_json_is_what_there_is():
    assert Json().deserialize(b'{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}


def test_names_that_a_dataclass_does_not_know_are_passed_over_and_defaults_hold():
    assert Json(Item).deserialize(b'{"name":"tea","colour":"green"}') == Item("tea", 1)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Item, b'{"count":1}', "$.name is missing"),
        (Item, b'{"name":1}', "$.name must be a string, and is 1"),
        (Item, b'{"name":"a","count":1.5}', "$.count must be a whole number, and is 1.5"),
        (Item, b'{"name":"a","count":true}', "$.count must be a whole number, and is true"),
        (Item, b"[]", "$ must be an object, and is []"),
        (list[Item], b'[{"name":"a"},{"name":null}]', "$[1].name must be a string, and is null"),
        (dict[str, float], b'{"a":"x"}', "$.a must be a number"),
        (tuple[int, int], b"[1]", "$ must be an array of 2"),
        (Size, b'"m"', "$ must be one of ['s', 'l']"),
        (Literal[1, 2], b"3", "$ must be one of [1, 2]"),
        (Literal[1, 2], b"true", "$ must be one of [1, 2]"),
        (datetime, b'"yesterday"', "$ must be a time as in"),
        (Decimal, b'"x"', "$ must be a number in quotes"),
        (uuid.UUID, b'"x"', "$ must be a UUID"),
        (bytes, b'"?"', "$ must be base64"),
        (Node, b'{"value":1,"next":{"value":"x"}}', "$.next.value must be a whole number"),
        (Person, b"{}", "$.name is missing"),
        (str, b'"' + b"x" * 100 + b"1", "Unterminated string"),
        (int, b"\xff", "can't decode"),
        (int, b'"' + b"x" * 100 + b'"', "..."),
    ],
)
def test_json_of_another_shape_is_refused_with_its_path(kind, text, expected):
    with pytest.raises(ValueError, match=".") as caught:
        Json(kind).deserialize(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize("kind", [object(), dict[int, str], type("Other", (), {}), set[complex]])
def test_a_type_that_json_cannot_give_is_refused_when_the_serializer_is_made(kind):
    with pytest.raises(TypeError, match="JSON"):
        Json(kind)


def test_models_of_pydantic_and_structs_of_msgspec_are_read_by_their_own_libraries():
    pydantic = pytest.importorskip("pydantic")
    msgspec = pytest.importorskip("msgspec")
    model = pydantic.create_model("Model", id=(str, ...), amount=(float, 1.0))
    record = msgspec.defstruct("Record", [("id", str), ("amount", float, 1.0)])
    typed = pydantic.dataclasses.dataclass(type("Typed", (), {"__annotations__": {"id": str}}))

    for kind in (model, record):
        json = Json(kind)
        assert json.serialize(kind(id="o1")) == b'{"id":"o1","amount":1.0}'
        assert json.deserialize(b'{"id":"o1"}') == kind(id="o1", amount=1.0)
    assert Json(typed).deserialize(b'{"id":"o1"}') == typed(id="o1")
    for kind in (model, record, typed):
        with pytest.raises(DeserializationError, match="orders, partition 0, offset 9"):
            mainspring.Topic("orders", value=Json(kind)).read_value(b'{"id":1}', "orders", 0, 9)


def test_numbers_are_written_as_kafkas_serializers_write_them():
    for serializer, form, numbers in [
        (Int32(), ">i", [0, -1, 2**31 - 1, -(2**31)]),
        (Int64(), ">q", [0, -1, 2**63 - 1, -(2**63)]),
        (Float64(), ">d", [0.0, -1.5, 1e300]),
    ]:
        for number in numbers:
            raw = serializer.serialize(number)
            assert raw == struct.pack(form, number)
            assert serializer.deserialize(raw) == number
        for data in (b"", raw + b"x"):
            with pytest.raises(ValueError, match="bytes are needed"):
                serializer.deserialize(data)
    for value in (2**31, "1", 1.5, None):
        with pytest.raises((ValueError, TypeError)):
            Int32().serialize(value)


def test_a_topic_without_serializers_takes_bytes_and_null():
    topic = mainspring.Topic("t")
    assert topic.serialize(b"v", b"k") == (b"v", b"k")
    assert topic.serialize(None) == (None, None)
    assert topic.serialize(memoryview(b"v"), bytearray(b"k")) == (b"v", b"k")
    assert topic.read_key is None
    assert topic.read_value is None


def test_a_typed_topic_reads_what_it_wrote():
    topic = mainspring.Topic("orders", key=Utf8(), value=Json(Item))
    raw, raw_key = topic.serialize(Item("tea"), "o1")
    assert topic.read_key(raw_key, "orders", 0, 1) == "o1"
    assert topic.read_value(raw, "orders", 0, 1) == Item("tea")
    assert topic.read_key(None, "orders", 0, 1) is None


@pytest.mark.parametrize(
    ("topic", "value", "key", "expected"),
    [
        (mainspring.Topic("t", value=Utf8()), 3, None, "the value cannot be written by Utf8(): it is of type int"),
        (mainspring.Topic("t", value=Utf8()), None, None, "null is sent only by a serializer that is Null"),
        (mainspring.Topic("t", key=Int64()), b"", 2**63, "the key cannot be written by Int64()"),
        (mainspring.Topic("t", value=Json(Item)), {}, None, "it is of type dict, and not Item"),
        (mainspring.Topic("t", value=Json()), {1j}, None, "a complex cannot be written as JSON"),
        (mainspring.Topic("t", value=Json()), float("nan"), None, "not JSON compliant"),
        (mainspring.Topic("t"), "text", None, "it is a str, and a record holds bytes"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_topic_and_the_part(topic, value, key, expected):
    with pytest.raises(SerializationError) as caught:
        topic.serialize(value, key)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("topic t: ")
    assert caught.value.context["topic"] == "t"
    assert caught.value.__cause__ is not None


def test_bytes_that_cannot_be_read_tell_where_they_stand():
    topic = mainspring.Topic("orders", key=Utf8(), value=Json(Item))
    with pytest.raises(DeserializationError) as caught:
        topic.read_value(b"{}", "orders", 3, 17)
    assert caught.value.context == {
        "topic": "orders",
        "partition": 3,
        "offset": 17,
        "part": "value",
    }
    assert "topic orders, partition 3, offset 17: the value cannot be read by Json(Item)" in str(
        caught.value
    )
    with pytest.raises(DeserializationError, match="the key cannot be read"):
        topic.read_key(b"\xff", "orders", 0, 0)
    with pytest.raises(DeserializationError, match="it is null"):
        topic.read_value(None, "orders", 0, 0)


def test_null_values_are_taken_by_a_serializer_that_says_so():
    topic = mainspring.Topic("t", value=Nullable(Json(Item)))
    assert topic.serialize(None, b"k") == (None, b"k")
    assert topic.read_value(None, "t", 0, 0) is None
    assert topic.read_value(topic.serialize(Item("a"))[0], "t", 0, 0) == Item("a")


def test_a_serializer_of_ones_own_needs_two_methods_and_must_make_bytes():
    class Hex:
        def serialize(self, value: int) -> bytes:
            return f"{value:x}".encode()

        def deserialize(self, data: bytes) -> int:
            return int(data, 16)

    class Wrong(Hex):
        def serialize(self, value: int) -> str:
            return "no bytes"

    topic = mainspring.Topic("t", value=Hex())
    assert topic.read_value(topic.serialize(255)[0], "t", 0, 0) == 255
    with pytest.raises(SerializationError, match="made a str of it, and not bytes"):
        mainspring.Topic("t", value=Wrong()).serialize(1)
    with pytest.raises(TypeError, match=r"make one of it: value=Utf8\(\)"):
        mainspring.Topic("t", value=Utf8)
    with pytest.raises(TypeError, match="is no serializer of the key"):
        mainspring.Topic("t", key=3)


def test_topics_are_compared_hashed_and_sent_to_other_processes():
    topics = [
        mainspring.Topic("a"),
        mainspring.Topic("a", value=Utf8()),
        mainspring.Topic("a", value=Json(Item)),
        mainspring.Topic("a", value=Nullable(Json())),
        mainspring.Topic("a", key=Bytes(), value=Int32()),
    ]
    for topic in topics:
        again = pickle.loads(pickle.dumps(topic))
        assert again == topic
        assert hash(again) == hash(topic)
        assert [other for other in topics if other == topic] == [topic]


TYPED = """
from dataclasses import dataclass
import mainspring as ms
from mainspring.serde import Json, Nullable, Utf8

@dataclass
class Order:
    id: str

reveal_type(ms.Topic("t"))
reveal_type(ms.Topic("t", key=Utf8()))
reveal_type(ms.Topic("t", value=Json(Order)))
reveal_type(ms.Topic("t", key=Utf8(), value=Json(Order)))
reveal_type(ms.Topic("t", value=Nullable(Json(Order))))
reveal_type(Json())
reveal_type(Json(list[int]))
ms.Topic("t", key=Utf8(), value=Json(Order)).serialize(3, "a")
"""


def test_type_checkers_know_what_a_topic_holds(tmp_path):
    pytest.importorskip("mypy")
    program = tmp_path / "typed.py"
    program.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    revealed = [line.split('"')[1] for line in said.splitlines() if "Revealed" in line]
    assert revealed == [
        "mainspring._topic.Topic[bytes, bytes]",
        "mainspring._topic.Topic[str, bytes]",
        "mainspring._topic.Topic[bytes, typed.Order]",
        "mainspring._topic.Topic[str, typed.Order]",
        "mainspring._topic.Topic[bytes, typed.Order | None]",
        "mainspring.serde.Json[Any]",
        "mainspring.serde.Json[list[int]]",
    ]
    assert 'incompatible type "int"; expected "Order | None"' in said
