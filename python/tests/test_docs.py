"""Every example in the documentation strings runs."""

import doctest

import mainspring
import mainspring.broker


def test_examples_run():
    for module in (mainspring, mainspring.broker):
        failed, tried = doctest.testmod(module)
        assert tried > 0
        assert failed == 0
