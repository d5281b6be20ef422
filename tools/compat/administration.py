"""What the admin clients in Python do with a topic and a group, step by step.

Each function returns pairs of a step's name and the work, whose result `run.py` compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import common
from common import Record

Steps = list[tuple[str, Callable[[], Any]]]
RETENTION = {"retention.ms": "3600000"}
LARGER = {"max.message.bytes": "2000000"}


def produced(client: common.Client, topic: str) -> bool:
    """Writes ten records with the client's own producer."""
    records = [Record(0, None, common.numbered(at)) for at in range(10)]
    return client.write(topic, records, "none", "all") == list(range(10))


def confluent(client: common.Client, topic: str, group: str | None) -> Steps:
    """The admin client of confluent-kafka."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewPartitions,
        NewTopic,
        OffsetSpec,
        ResourceType,
    )

    admin = AdminClient({"bootstrap.servers": client.bootstrap, "log_level": 0})
    first = TopicPartition(topic, 0)

    def create() -> bool:
        return admin.create_topics([NewTopic(topic, 3, 1, config=RETENTION)])[topic].result(20) is None

    def again() -> bool:
        try:
            return not create()
        except KafkaException as error:
            return error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS

    def partitions() -> int:
        return len(admin.list_topics(topic, 20).topics[topic].partitions)

    def config(name: str) -> str:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return admin.describe_configs([resource])[resource].result(20)[name].value

    def alter() -> str:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in LARGER.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        admin.incremental_alter_configs([resource])[resource].result(20)
        return config("max.message.bytes")

    def add() -> int:
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
        return partitions()

    def offset(which: OffsetSpec) -> int:
        return admin.list_offsets({first: which})[first].result(20).offset

    def delete_records() -> int:
        asked = admin.delete_records([TopicPartition(topic, 0, 4)])
        return asked[TopicPartition(topic, 0, 4)].result(20).low_watermark

    def delete() -> bool:
        admin.delete_topics([topic])[topic].result(20)
        return topic not in admin.list_topics(timeout=20).topics

    def committed() -> TopicPartition:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [first])])
        return asked[group].result(20).topic_partitions[0]

    def commit() -> int:
        offsets = [TopicPartition(topic, 0, 7)]
        asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)])
        asked[group].result(20)
        return committed().offset

    def listed() -> bool:
        return any(one.group_id == group for one in admin.list_consumer_groups().result(20).valid)

    def delete_group() -> bool:
        admin.delete_consumer_groups([group])[group].result(20)
        return not listed()

    groups: Steps = [
        ("commit", commit),
        ("lag", lambda: offset(OffsetSpec.latest()) - committed().offset),
        ("list groups", listed),
        (
            "group state",
            lambda: admin.describe_consumer_groups([group])[group].result(20).state.name.capitalize(),
        ),
        ("delete group", delete_group),
    ]
    return [
        ("create", create),
        ("create again", again),
        ("list", lambda: topic in admin.list_topics(timeout=20).topics),
        ("partitions", partitions),
        ("config", lambda: config("retention.ms")),
        ("alter", alter),
        ("add partitions", add),
        ("produce", lambda: produced(client, topic)),
        ("delete records", delete_records),
        ("earliest", lambda: offset(OffsetSpec.earliest()) == 4),
        ("latest", lambda: offset(OffsetSpec.latest())),
        ("cluster", lambda: len(admin.describe_cluster().result(20).nodes)),
        *(groups if group else []),
        ("delete topic", delete),
    ]


def kafka_python(client: common.Client, topic: str, group: str | None) -> Steps:
    """The admin client of kafka-python."""
    from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
    from kafka.admin import ConfigResource
    from kafka.errors import TopicAlreadyExistsError

    admin = KafkaAdminClient(bootstrap_servers=client.bootstrap)
    first = TopicPartition(topic, 0)

    def create() -> bool:
        admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1, "configs": RETENTION}})
        return True

    def again() -> bool:
        try:
            return not create()
        except TopicAlreadyExistsError:
            return True

    def partitions() -> int:
        return len(admin.describe_topics([topic])[0]["partitions"])

    def config(name: str) -> str:
        found = admin.describe_configs([ConfigResource("topic", topic)])
        return found["topic"][topic][name]["value"]

    def alter() -> str:
        admin.alter_configs([ConfigResource("topic", topic, LARGER)])
        return config("max.message.bytes")

    def add() -> int:
        admin.create_partitions({topic: 5})
        return partitions()

    def offset(which: int) -> int:
        return admin.list_partition_offsets({first: which})[first].offset

    def delete_records() -> int:
        admin.delete_records({first: 4})
        return offset(-2)

    def delete() -> bool:
        admin.delete_topics([topic])
        return topic not in admin.list_topics()

    def committed() -> OffsetAndMetadata:
        return admin.list_group_offsets({group: [first]})[group][first]

    def commit() -> int:
        others = TopicPartition(topic, 1)
        offsets = {first: OffsetAndMetadata(7, "note", -1), others: OffsetAndMetadata(0, "", -1)}
        admin.alter_group_offsets(group, offsets)
        return committed().offset

    def listed() -> bool:
        return any(one["group_id"] == group for one in admin.list_groups())

    def delete_offsets() -> bool:
        admin.delete_group_offsets(group, [first])
        return first not in admin.list_group_offsets(group)[group]

    def delete_group() -> bool:
        admin.delete_groups([group])
        return not listed()

    groups: Steps = [
        ("commit", commit),
        ("metadata", lambda: committed().metadata),
        ("lag", lambda: offset(-1) - committed().offset),
        ("list groups", listed),
        ("group state", lambda: admin.describe_groups([group])[group]["group_state"]),
        ("delete offsets", delete_offsets),
        ("delete group", delete_group),
    ]
    return [
        ("create", create),
        ("create again", again),
        ("list", lambda: topic in admin.list_topics()),
        ("partitions", partitions),
        ("config", lambda: config("retention.ms")),
        ("alter", alter),
        ("add partitions", add),
        ("produce", lambda: produced(client, topic)),
        ("delete records", delete_records),
        ("latest", lambda: offset(-1)),
        ("directory", lambda: len(admin.describe_log_dirs()[0]["log_dirs"]) == 1),
        ("cluster", lambda: len(admin.describe_cluster()["brokers"])),
        *(groups if group else []),
        ("delete topic", delete),
    ]


def aiokafka(client: common.Client, topic: str, group: str | None) -> Steps:
    """The admin client of aiokafka, the one with the oldest versions."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.admin.records_to_delete import RecordsToDelete

    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    first = TopicPartition(topic, 0)
    admin = run(started(lambda: AIOKafkaAdminClient(bootstrap_servers=client.bootstrap)))

    def create() -> int:
        new = NewTopic(topic, 3, 1, topic_configs=RETENTION)
        return run(admin.create_topics([new])).topic_errors[0][1]

    def partitions() -> int:
        return len(run(admin.describe_topics([topic]))[0]["partitions"])

    def config(name: str) -> str:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [answer] = run(admin.describe_configs([resource]))
        return next(entry[1] for entry in answer.resources[0][4] if entry[0] == name)

    def alter() -> str:
        # Replaces the whole set, so what was set at the creation is told again.
        run(admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, RETENTION | LARGER)]))
        return config("max.message.bytes")

    def add() -> int:
        run(admin.create_partitions({topic: NewPartitions(5)}))
        return partitions()

    def delete() -> bool:
        run(admin.delete_topics([topic]))
        return topic not in run(admin.list_topics())

    async def _commit() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=client.bootstrap, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign([first])
        await consumer.commit({first: (7, "note")})
        await consumer.stop()

    def commit() -> int:
        run(_commit())
        return run(admin.list_consumer_group_offsets(group))[first].offset

    def described() -> str:
        [answer] = run(admin.describe_consumer_groups([group]))
        return answer.groups[0][2]

    groups: Steps = [
        ("commit", commit),
        ("metadata", lambda: run(admin.list_consumer_group_offsets(group))[first].metadata),
        ("list groups", lambda: any(one[0] == group for one in run(admin.list_consumer_groups()))),
        ("group state", described),
    ]
    return [
        ("create", lambda: create() == 0),
        ("create again", lambda: create() == 36),
        ("list", lambda: topic in run(admin.list_topics())),
        ("partitions", partitions),
        ("config", lambda: config("retention.ms")),
        ("alter", alter),
        ("add partitions", add),
        ("produce", lambda: produced(client, topic)),
        ("delete records", lambda: run(admin.delete_records({first: RecordsToDelete(4)}))[first]),
        ("cluster", lambda: len(run(admin.describe_cluster())["brokers"])),
        *(groups if group else []),
        ("delete topic", delete),
    ]


async def started(make: Callable[[], Any]) -> Any:
    """Makes and starts something that wants a running loop."""
    made = make()
    await made.start()
    return made
