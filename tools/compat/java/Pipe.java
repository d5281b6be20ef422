import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A worker of a pipeline: what it takes as the member of a group it writes on, both in one transaction. */
final class Pipe {
    private static final String TIMEOUT_MS = "10000";
    private static final String SESSION_MS = "6000";
    private static final String PATIENCE_MS = "20000";

    private final String bootstrap;
    private final JsonNode job;

    private Pipe(String bootstrap, JsonNode job) {
        this.bootstrap = bootstrap;
        this.job = job;
    }

    /** Works until it is killed. */
    static ObjectNode run(String bootstrap, JsonNode job) {
        Pipe pipe = new Pipe(bootstrap, job);
        while (true) {
            try {
                pipe.work();
            } catch (KafkaException error) {
                tell(event("failed").put("why", error.toString()));
            }
        }
    }

    private static ObjectNode event(String name) {
        return Json.object().put("at", System.currentTimeMillis() / 1000.0).put("event", name);
    }

    private static void tell(ObjectNode event) {
        Json.print(event);
    }

    private static void places(String name, Collection<TopicPartition> places) {
        ObjectNode event = event(name);
        var list = event.putArray("partitions");
        places.forEach(place -> list.add(place.partition()));
        tell(event);
    }

    private void work() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("transactional.id", job.get("id").asText());
        settings.put("transaction.timeout.ms", TIMEOUT_MS);
        settings.put("delivery.timeout.ms", TIMEOUT_MS);
        settings.put("request.timeout.ms", "5000");
        settings.put("linger.ms", "0");
        settings.put("max.block.ms", PATIENCE_MS);
        settings.put("reconnect.backoff.max.ms", "500");
        Map<String, String> member = Map.of(
                "group.id", job.get("group").asText(),
                "isolation.level", "read_committed",
                "max.poll.records", "50",
                "session.timeout.ms", SESSION_MS,
                "heartbeat.interval.ms", "1000");
        tell(event("init"));
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
                var consumer = Client.consumer(bootstrap, member)) {
            try {
                producer.initTransactions();
                consumer.subscribe(List.of(job.get("source").asText()), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> gained) {
                        places("assigned", gained);
                    }

                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> lost) {
                        places("revoked", lost);
                    }
                });
                while (true) {
                    var records = consumer.poll(Duration.ofMillis(500));
                    if (!records.isEmpty()) {
                        transaction(producer, consumer, records);
                    }
                }
            } catch (KafkaException error) {
                // Closing waits for what is on its way, which is of no use any more.
                producer.close(Duration.ZERO);
                throw error;
            }
        }
    }

    private void transaction(
            KafkaProducer<byte[], byte[]> producer,
            KafkaConsumer<byte[], byte[]> consumer,
            ConsumerRecords<byte[], byte[]> records) {
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            TopicPartition place = new TopicPartition(record.topic(), record.partition());
            positions.put(place, new OffsetAndMetadata(record.offset() + 1));
        }
        ObjectNode begin = event("begin");
        ObjectNode told = begin.putObject("positions");
        positions.forEach((place, to) -> told.put(String.valueOf(place.partition()), to.offset()));
        tell(begin);
        producer.beginTransaction();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            String target = job.get("target").asText();
            producer.send(new ProducerRecord<>(target, record.partition(), record.key(), record.value()));
        }
        producer.sendOffsetsToTransaction(positions, consumer.groupMetadata());
        producer.commitTransaction();
        tell(event("committed").put("count", records.count()));
    }
}
