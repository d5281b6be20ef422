import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;

/** What the admin client does with a topic and a group, step by step. */
final class Administration {
    private final String bootstrap;
    private final String topic;
    private final String group;
    private final TopicPartition first;
    private final ObjectNode steps = Json.object();

    Administration(String bootstrap, JsonNode job) {
        this.bootstrap = bootstrap;
        this.topic = job.get("topic").asText();
        this.group = job.path("group").isTextual() ? job.get("group").asText() : null;
        this.first = new TopicPartition(topic, 0);
    }

    ObjectNode run() {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            topics(admin);
            if (group != null) {
                groups(admin);
            }
            step("delete topic", () -> {
                admin.deleteTopics(List.of(topic)).all().get();
                return !admin.listTopics().names().get().contains(topic);
            });
        }
        ObjectNode result = Json.object();
        result.set("steps", steps);
        return result;
    }

    private void step(String name, Callable<Object> work) {
        try {
            steps.putPOJO(name, work.call());
        } catch (Exception error) {
            steps.put(name, error.toString());
        }
    }

    private void topics(Admin admin) {
        NewTopic made = new NewTopic(topic, Optional.of(3), Optional.of((short) 1))
                .configs(Map.of("retention.ms", "3600000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        step("create", () -> {
            admin.createTopics(List.of(made)).all().get();
            return true;
        });
        step("create again", () -> {
            try {
                admin.createTopics(List.of(made)).all().get();
                return false;
            } catch (ExecutionException error) {
                return error.getCause() instanceof TopicExistsException;
            }
        });
        step("list", () -> admin.listTopics().names().get().contains(topic));
        step("partitions", () -> partitions(admin));
        step("config", () -> config(admin, resource, "retention.ms"));
        step("alter", () -> {
            var change = new AlterConfigOp(
                    new ConfigEntry("max.message.bytes", "2000000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            return config(admin, resource, "max.message.bytes");
        });
        step("add partitions", () -> {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            return partitions(admin);
        });
        step("produce", () -> {
            try (var producer = Client.producer(bootstrap, "none", "all")) {
                for (int at = 0; at < 10; at++) {
                    producer.send(new ProducerRecord<>(topic, 0, null, Json.numbered(at))).get();
                }
            }
            return true;
        });
        step("delete records", () -> {
            admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(4))).all().get();
            return offset(admin, OffsetSpec.earliest());
        });
        step("latest", () -> offset(admin, OffsetSpec.latest()));
        step("directory", () -> admin.describeLogDirs(List.of(1)).allDescriptions().get().values().stream()
                .flatMap(directories -> directories.values().stream())
                .anyMatch(directory -> directory.replicaInfos().containsKey(first)));
        step("cluster", () -> admin.describeCluster().nodes().get().size());
    }

    private void groups(Admin admin) {
        step("commit", () -> {
            var offsets = Map.of(
                    first, new OffsetAndMetadata(7, "note"),
                    new TopicPartition(topic, 1), new OffsetAndMetadata(0));
            admin.alterConsumerGroupOffsets(group, offsets).all().get();
            return committed(admin).offset();
        });
        step("metadata", () -> committed(admin).metadata());
        step("lag", () -> offset(admin, OffsetSpec.latest()) - committed(admin).offset());
        step("list groups", () -> listed(admin));
        step("group state", () ->
                admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState().toString());
        step("delete offsets", () -> {
            admin.deleteConsumerGroupOffsets(group, java.util.Set.of(first)).all().get();
            return committed(admin) == null;
        });
        step("delete group", () -> {
            admin.deleteConsumerGroups(List.of(group)).all().get();
            return !listed(admin);
        });
    }

    private boolean listed(Admin admin) throws Exception {
        return admin.listGroups().all().get().stream().anyMatch(one -> one.groupId().equals(group));
    }

    private OffsetAndMetadata committed(Admin admin) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(first);
    }

    private int partitions(Admin admin) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    }

    private static String config(Admin admin, ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name).value();
    }

    private long offset(Admin admin, OffsetSpec which) throws Exception {
        ListOffsetsResultInfo found = admin.listOffsets(Map.of(first, which)).all().get().get(first);
        return found.offset();
    }
}
