"""Mainspring for asyncio: the same names and the same behaviour, awaited.

>>> async def main():
...     with mainspring.Broker() as broker:
...         async with mainspring.aio.Producer(broker.bootstrap) as producer:
...             stored = await producer.send("orders", b"{}")
...             return stored.offset
>>> asyncio.run(main())
0
"""

from mainspring.aio._admin import Admin
from mainspring.aio._broker import Broker, SpawnedBroker
from mainspring.aio._consumer import Consumer
from mainspring.aio._half import Half
from mainspring.aio._producer import Producer
from mainspring.aio._transaction import Transaction

__all__ = ["Admin", "Broker", "Consumer", "Half", "Producer", "SpawnedBroker", "Transaction"]
