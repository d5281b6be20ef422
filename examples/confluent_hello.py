"""Produces three records and reads them back, with Confluent's Python client.

    pip install confluent-kafka
    python examples/confluent_hello.py [HOST:PORT]
"""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"

# A delivery is reported once the record is on stable storage.
delivered = []


def note(error, message):
    if error:
        raise SystemExit(f"not delivered: {error}")
    delivered.append(message.offset())


producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
for number in range(3):
    producer.produce("hello", key=f"key {number}", value=f"value {number}", partition=0, on_delivery=note)
producer.flush(10)

# It says by itself what it reads: the three records of this run. With `subscribe` it would share the
# partitions with the other members of its group, and go on where the group has committed.
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
consumer.assign([TopicPartition("hello", 0, delivered[0])])
for _ in delivered:
    message = consumer.poll(10)
    if message is None or message.error():
        raise SystemExit("nothing came back")
    key, value = message.key() or b"", message.value() or b""
    print(message.offset(), key.decode(), value.decode())
consumer.close()
