"""Every example in the documentation strings runs."""

import asyncio
import doctest

import mainspring
import mainspring._admin
import mainspring._codes
import mainspring._config
import mainspring._testing
import mainspring._topic
import mainspring._consumer
import mainspring._half
import mainspring._later
import mainspring._producer
import mainspring._transaction
import mainspring._types
import mainspring.aio._admin
import mainspring.aio._consumer
import mainspring.aio._half
import mainspring.aio._producer
import mainspring.aio._transaction
import mainspring.broker
import mainspring.errors
import mainspring.serde


def test_examples_run():
    for module in (
        mainspring,
        mainspring._admin,
        mainspring._codes,
        mainspring._config,
        mainspring._testing,
        mainspring._topic,
        mainspring._consumer,
        mainspring._half,
        mainspring._later,
        mainspring._producer,
        mainspring._transaction,
        mainspring._types,
        mainspring.aio,
        mainspring.aio._admin,
        mainspring.aio._broker,
        mainspring.aio._consumer,
        mainspring.aio._half,
        mainspring.aio._producer,
        mainspring.aio._transaction,
        mainspring.broker,
        mainspring.errors,
        mainspring.serde,
    ):
        names = {**vars(module), "asyncio": asyncio, "mainspring": mainspring}
        failed, tried = doctest.testmod(module, globs=names)
        assert tried > 0
        assert failed == 0
