"""Settings of clients: keywords, dotted names, and what is refused."""

from datetime import timedelta
from enum import Enum

import pytest
from mainspring import _native
from mainspring._config import to_settings
from mainspring.errors import ConfigError


class Codec(Enum):
    ZSTD = "zstd"


def test_keywords_and_dotted_names_become_pairs_of_text():
    settings = to_settings(
        "producer",
        {
            "linger_ms": 5,
            "acks": "all",
            "compression": Codec.ZSTD,
            "batch_size": 16384.0,
            "delivery_timeout_ms": timedelta(seconds=90),
            "client_id": None,
        },
        {"enable.idempotence": True, "max.request.size": 100},
    )
    assert dict(settings) == {
        "linger.ms": "5",
        "acks": "all",
        "compression.type": "zstd",
        "batch.size": "16384",
        "delivery.timeout.ms": "90000",
        "enable.idempotence": "true",
        "max.request.size": "100",
    }


def test_lists_are_joined_by_commas():
    rules = {"partition_assignment_strategy": ["range", "cooperative-sticky"]}
    assert to_settings("consumer", rules) == [
        ("partition.assignment.strategy", "range,cooperative-sticky")
    ]


@pytest.mark.parametrize(
    ("keywords", "config"),
    [
        ({"linger_ms": 5}, {"linger.ms": 5}),
        ({"compression": "zstd"}, {"compression.type": "zstd"}),
        ({"compression": "zstd", "compression_type": "zstd"}, {}),
    ],
)
def test_the_same_setting_given_both_ways_is_refused(keywords, config):
    with pytest.raises(ConfigError, match="is given twice"):
        to_settings("producer", keywords, config)


@pytest.mark.parametrize(
    ("kind", "keywords", "config", "expected"),
    [
        (
            "producer",
            {"linger_mss": 5},
            {},
            "linger_mss is no setting of a producer; did you mean linger_ms (linger.ms in config)?",
        ),
        (
            "producer",
            {},
            {"linger.mss": 5},
            "linger.mss is no setting of a producer; did you mean linger_ms (linger.ms in config)?",
        ),
        (
            "producer",
            {"compresion": "zstd"},
            {},
            "compresion is no setting of a producer; did you mean compression (compression.type",
        ),
        (
            "producer",
            {},
            {"compression.codec": "lz4"},
            "use compression (compression.type in config)",
        ),
        ("producer", {}, {"queue.buffering.max.ms": 5}, "use linger_ms (linger.ms in config)"),
        ("producer", {"group_id": "g"}, {}, "group_id is a setting of a consumer"),
        ("producer", {"transactional_ids": "t"}, {}, "did you mean transactional_id"),
        ("producer", {"value_serializer": "x"}, {}, "give a topic with serializers"),
        ("consumer", {"bootstrap_servers": "x"}, {}, "the client's first argument"),
        ("consumer", {"max_poll_records": 1}, {}, "batches that say their size"),
        ("admin", {"acks": 1}, {}, "acks is a setting of a producer, not of an admin client"),
        ("producer", {"acks": object()}, {}, "acks is a number, a text or a bool"),
        ("producer", {}, {1: 2}, "the names in config are strings"),
    ],
)
def test_what_is_no_setting_is_answered_with_what_would_be_right(kind, keywords, config, expected):
    with pytest.raises(ConfigError) as caught:
        to_settings(kind, keywords, config)
    assert expected in str(caught.value)


def test_every_setting_has_a_default_that_is_taken_and_words_that_explain_it():
    for kind in ("producer", "consumer", "admin"):
        known = _native.client_settings(kind)
        assert [name for name, _, _ in known] == sorted(name for name, _, _ in known)
        for name, default, documentation in known:
            assert documentation.endswith(".")
            needed = {"consumer": ("group.id", "g"), "producer": ("transactional.id", "t")}
            given = [needed[kind]] if kind in needed and name != needed[kind][0] else []
            _native.check_settings(kind, "a:1", [*given, (name, default)])


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("producer", {"linger.ms": "-1"}, "linger.ms=-1 is not valid: it must be at least 0"),
        ("producer", {"linger.ms": "0.5"}, "it must be a whole number"),
        ("producer", {"acks": "1", "enable.idempotence": "true"}, "needs acks=all"),
        ("consumer", {"group.id": "g", "session.timeout.ms": "100"}, "heartbeat.interval.ms"),
        ("admin", {"default.api.timeout.ms": "1"}, "request.timeout.ms"),
    ],
)
def test_values_are_checked_when_a_client_is_made(kind, settings, expected):
    with pytest.raises(ConfigError) as caught:
        _native.check_settings(kind, "127.0.0.1:9092", list(settings.items()))
    assert expected in str(caught.value)


@pytest.mark.parametrize("bootstrap", ["", "host", "host:0", "::1:9092", "a:1,b"])
def test_an_address_that_is_none_is_refused(bootstrap):
    with pytest.raises(ConfigError, match="write it as HOST:PORT"):
        _native.check_settings("producer", bootstrap, [])


@pytest.mark.parametrize("bootstrap", ["a:1", "a:1,b:2,", "[::1]:9092", " a.example:1 , b:2"])
def test_addresses_are_taken_as_people_write_them(bootstrap):
    _native.check_settings("consumer", bootstrap, [])
