"""Errors: classes, Kafka's codes, and what they say."""

import copy
import pickle
import re
from pathlib import Path

import pytest
from mainspring import _native, errors
from mainspring.errors import ErrorCode, KafkaError, MainspringError


def test_codes_are_those_of_the_core():
    assert [(code.value, code.name) for code in ErrorCode] == [
        (code, name) for code, name, _ in _native.error_codes()
    ]


def test_every_code_becomes_an_error_that_says_what_why_and_what_next():
    for code, name, retriable in _native.error_codes():
        error = _native.error_of_answer(code, None, topic="orders", partition="3")
        if name == "NONE":
            assert error is None
            continue
        assert isinstance(error, KafkaError)
        assert (error.code, error.name) == (code, name)
        assert error.retriable or not retriable
        assert error.context == {"topic": "orders", "partition": 3}
        text = str(error)
        assert text.startswith(f"topic orders, partition 3: {name} ({code}): "), text
        assert "; " in text and not text.endswith("."), text


def test_codes_become_the_classes_that_people_catch():
    for code, kind, builtin in [
        (3, errors.TopicNotFound, LookupError),
        (100, errors.TopicNotFound, LookupError),
        (36, errors.TopicAlreadyExists, MainspringError),
        (69, errors.GroupNotFound, LookupError),
        (68, errors.GroupNotEmpty, MainspringError),
        (29, errors.AuthorizationError, PermissionError),
        (30, errors.AuthorizationError, PermissionError),
        (7, errors.RequestTimedOut, TimeoutError),
        (10, errors.MessageTooLarge, MainspringError),
        (1, errors.OffsetOutOfRange, LookupError),
        (27, errors.RebalanceInProgress, MainspringError),
        (25, errors.RebalanceInProgress, MainspringError),
        (82, errors.MemberFenced, MainspringError),
        (90, errors.ProducerFenced, MainspringError),
        (120, errors.TransactionAborted, MainspringError),
        (47, errors.TransactionAborted, MainspringError),
    ]:
        error = _native.error_of_answer(code)
        assert type(error) is kind
        assert isinstance(error, builtin)
        assert error.code == code


def test_words_of_the_broker_are_kept_on_one_line():
    error = _native.error_of_answer(44, "no\ntopics of that name")
    assert str(error) == "POLICY_VIOLATION (44): no topics of that name; correct it and try again"


def test_a_number_that_nobody_knows_is_kept():
    error = _native.error_of_answer(999)
    assert isinstance(error, KafkaError)
    assert (error.code, error.name) == (999, "UNKNOWN_CODE_999")
    assert not isinstance(error.code, ErrorCode)


def test_every_class_is_exported_and_can_be_made_of_a_text_alone():
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not issubclass(kind, BaseException):
            continue
        error = kind("what: why; next")
        assert isinstance(error, MainspringError)
        assert str(error) == "what: why; next"
        assert error.context == {}
        assert isinstance(error.retriable, bool)
        assert isinstance(error.fatal, bool)
        assert kind.__doc__


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_can_be_sent_to_another_process(again):
    for error in [
        _native.error_of_answer(29, "not you", topic="orders"),
        _native.error_of_answer(7, None, group="g"),
        errors.FlushTimeout.of(3, 1.0),
        errors.DeserializationError("bad", context={"offset": 3}),
    ]:
        copied = again(error)
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        assert copied.__dict__ == error.__dict__


def test_a_flush_that_ran_out_of_time_says_how_many_records_are_left():
    error = errors.FlushTimeout.of(1, 2.5)
    assert error.remaining == 1
    assert "1 record was not acknowledged after 2.5 s" in str(error)
    assert isinstance(error, TimeoutError)


@pytest.mark.skipif(not hasattr(_native, "_panic"), reason="only a build with assertions fails on purpose")
def test_a_panic_leaves_as_an_error_that_programs_catch():
    with pytest.raises(errors.InternalError, match="please report it"):
        _native._panic()


def test_every_way_into_the_native_module_lets_no_panic_out_as_one():
    sources = Path(__file__).parents[2] / "pybind/src"
    unguarded = []
    for source in sorted(sources.glob("*.rs")):
        text = source.read_text()
        for block in re.findall(r"#\[(?:pymethods|pyfunction)\].*?^\}", text, re.DOTALL | re.MULTILINE):
            # What cannot fail reads a field, or says so by its type.
            for name, body in re.findall(r"fn (\w+)[^{;]*PyResult[^{;]*\{\n(.*?)\n    \}", block, re.DOTALL):
                if not body.strip().startswith("guarded("):
                    unguarded.append(f"{source.name}: {name}")
    assert not unguarded
