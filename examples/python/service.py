"""A service in an event loop that reads one topic and publishes to another, and stops on SIGTERM.

Needs a broker: `mainspring serve --memory`, or any other Kafka broker at MAINSPRING_BOOTSTRAP. It ends
by itself after ten readings, so that it can be tried.
"""

import asyncio
import signal

import mainspring as ms
import mainspring.aio as msa
from mainspring.serde import Int64, Json, Utf8

readings = ms.Topic("readings", key=Utf8(), value=Int64())
alarms = ms.Topic("alarms", key=Utf8(), value=Json(dict[str, int]))
COUNT = 10


async def sensor() -> None:
    """Publishes readings; each `await` is a reading that is stored."""
    async with msa.Producer() as producer:
        for number in range(COUNT):
            await producer.send(readings, 15 + number, key=f"sensor-{number % 2}")


async def watch(consumer: msa.Consumer[str, int], producer: msa.Producer) -> int:
    """Publishes an alarm for each reading that is too high, until the consumer is stopped."""
    seen = 0
    async for message in consumer:
        seen += 1
        if message.value > 20:
            await producer.send(alarms, {"celsius": message.value}, key=message.key)
        if seen == COUNT:
            consumer.stop()
    return seen


async def main() -> None:
    async with msa.Admin() as admin:
        await admin.create_topic(readings, exist_ok=True)
        await admin.create_topic(alarms, exist_ok=True)
    async with (
        msa.Consumer(topics=readings, group="watch", start="earliest") as consumer,
        msa.Producer(linger_ms=0) as producer,
    ):
        # The loop ends in order: what is processed is stored, and the group is left.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        _, seen = await asyncio.gather(sensor(), watch(consumer, producer))
    print(f"{seen} readings were watched")


if __name__ == "__main__":
    asyncio.run(main())
