"""librdkafka's mock cluster as a broker that stores nothing: prints HOST:PORT, runs until stdin ends."""

import sys
import threading

import confluent_kafka

producer = confluent_kafka.Producer({"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
print(f"{broker.host}:{broker.port}", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    producer.poll(0.5)
