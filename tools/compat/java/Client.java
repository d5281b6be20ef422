import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The client of Apache Kafka itself: the newest end of every version range. */
public final class Client {
    final String bootstrap;

    private Client(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /** Runs one role, whose arguments come as a line of JSON on standard input. */
    public static void main(String[] words) throws Exception {
        Map<String, String> options = Map.of(words[0], words[1], words[2], words[3]);
        Client client = new Client(options.get("--bootstrap"));
        JsonNode job = Json.next();
        ObjectNode result =
                switch (options.get("--role")) {
                    case "write" -> client.write(job);
                    case "read" -> client.read(job);
                    case "lookup" -> client.lookup(job);
                    case "hold" -> client.hold(job);
                    case "follow" -> client.follow(job);
                    case "admin" -> new Administration(client.bootstrap, job).run();
                    case "session" -> Members.run(client.bootstrap, job);
                    case "pipe" -> Pipe.run(client.bootstrap, job);
                    case "transact" -> Transactions.run(client.bootstrap);
                    default -> throw new IllegalArgumentException(options.get("--role"));
                };
        Json.print(result.put("client", "java"));
        System.exit(0);
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, String codec, String acks) {
        boolean idempotent = acks.equals("idempotent");
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        settings.put("acks", idempotent ? "all" : acks);
        settings.put("enable.idempotence", String.valueOf(idempotent));
        settings.put("linger.ms", "5");
        settings.put("reconnect.backoff.max.ms", "500");
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, Map<String, String> more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        // A fetch in flight delays the one after another assignment.
        settings.put("fetch.max.wait.ms", "50");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private ObjectNode write(JsonNode job) throws Exception {
        ObjectNode result = Json.object();
        ObjectNode sent = result.putObject("sent");
        for (Map.Entry<String, JsonNode> topic : job.get("topics").properties()) {
            JsonNode plan = topic.getValue();
            String acks = plan.get("acks").asText();
            ArrayNode offsets = sent.putArray(topic.getKey());
            try (var producer = producer(bootstrap, plan.get("codec").asText(), acks)) {
                List<Future<RecordMetadata>> futures = new ArrayList<>();
                for (JsonNode record : plan.get("records")) {
                    futures.add(producer.send(Json.toSend(topic.getKey(), record)));
                }
                producer.flush();
                for (Future<RecordMetadata> future : futures) {
                    RecordMetadata at = future.get();
                    offsets.add(acks.equals("0") ? null : at.offset());
                }
            }
        }
        return result;
    }

    private static List<ConsumerRecord<byte[], byte[]>> poll(
            KafkaConsumer<byte[], byte[]> consumer, int count, double seconds) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        while (records.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    private ObjectNode read(JsonNode job) {
        ObjectNode result = Json.object();
        ObjectNode read = result.putObject("read");
        double timeout = job.has("timeout") ? job.get("timeout").asDouble() : 20;
        try (var consumer = consumer(bootstrap, Map.of())) {
            for (Map.Entry<String, JsonNode> topic : job.get("topics").properties()) {
                List<TopicPartition> assigned = new ArrayList<>();
                for (int at = 0; at < topic.getValue().get("partitions").asInt(); at++) {
                    assigned.add(new TopicPartition(topic.getKey(), at));
                }
                consumer.assign(assigned);
                consumer.seekToBeginning(assigned);
                var records = poll(consumer, topic.getValue().get("count").asInt(), timeout);
                records.sort(Comparator.<ConsumerRecord<byte[], byte[]>>comparingInt(ConsumerRecord::partition)
                        .thenComparingLong(ConsumerRecord::offset));
                ArrayNode list = read.putArray(topic.getKey());
                records.forEach(record -> list.add(Json.read(record)));
            }
        }
        return result;
    }

    private ObjectNode lookup(JsonNode job) {
        ObjectNode result = Json.object();
        ArrayNode answers = result.putArray("answers");
        try (var consumer = consumer(bootstrap, Map.of())) {
            for (JsonNode question : job.get("questions")) {
                TopicPartition where =
                        new TopicPartition(question.get(0).asText(), question.get(1).asInt());
                OffsetAndTimestamp found =
                        consumer.offsetsForTimes(Map.of(where, question.get(2).asLong())).get(where);
                ArrayNode answer = answers.addArray().add(found == null ? -1 : found.offset());
                if (found == null) {
                    answer.addNull();
                    continue;
                }
                consumer.assign(List.of(where));
                consumer.seek(where, found.offset());
                var records = poll(consumer, 1, 10);
                answer.add(records.isEmpty() ? null : Json.read(records.get(0)));
            }
        }
        return result;
    }

    private ObjectNode hold(JsonNode job) throws Exception {
        AtomicInteger acked = new AtomicInteger();
        try (var producer = producer(bootstrap, "none", "idempotent")) {
            for (int number = 0; number < job.get("count").asInt(); number++) {
                var record = new ProducerRecord<byte[], byte[]>(
                        job.get("topic").asText(), 0, null, Json.numbered(number));
                producer.send(record, (at, error) -> {
                    if (error == null) {
                        acked.incrementAndGet();
                    }
                });
                Thread.sleep((long) (job.get("pause").asDouble() * 1000));
            }
            producer.flush();
        }
        return Json.object().put("acked", acked.get());
    }

    private ObjectNode follow(JsonNode job) {
        ObjectNode result = Json.object();
        ArrayNode numbers = result.putArray("numbers");
        try (var consumer = consumer(bootstrap, Map.of())) {
            List<TopicPartition> assigned = List.of(new TopicPartition(job.get("topic").asText(), 0));
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            for (var record : poll(consumer, job.get("count").asInt(), job.get("timeout").asDouble())) {
                numbers.add(Json.number(record.value()));
            }
        }
        return result;
    }
}
