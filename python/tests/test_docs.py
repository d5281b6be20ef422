"""Every example in the documentation strings runs."""

import doctest

import mainspring
import mainspring._codes
import mainspring._config
import mainspring._topic
import mainspring.broker
import mainspring.errors
import mainspring.serde


def test_examples_run():
    for module in (
        mainspring,
        mainspring._codes,
        mainspring._config,
        mainspring._topic,
        mainspring.broker,
        mainspring.errors,
        mainspring.serde,
    ):
        failed, tried = doctest.testmod(module)
        assert tried > 0
        assert failed == 0
