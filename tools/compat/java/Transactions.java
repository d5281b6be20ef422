import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Producers in transactions, told by lines on standard input what to do. */
final class Transactions {
    private static final long PATIENCE_MS = 20_000;

    private final String bootstrap;
    private final Map<Integer, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private KafkaConsumer<byte[], byte[]> member;

    private Transactions(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /** Does what it is told until standard input ends. */
    static ObjectNode run(String bootstrap) throws Exception {
        Transactions transactions = new Transactions(bootstrap);
        for (JsonNode line = Json.next(); line != null; line = Json.next()) {
            ObjectNode answer = Json.object();
            try {
                transactions.step(line, answer);
            } catch (Exception error) {
                answer.put("error", error.getClass().getSimpleName()).put("why", causes(error));
            }
            Json.print(answer);
        }
        return Json.object().put("ended", true);
    }

    private static String causes(Throwable error) {
        String why = String.valueOf(error.getMessage());
        Throwable cause = error.getCause();
        return cause == null ? why : why + "; " + cause.getClass().getSimpleName();
    }

    private void step(JsonNode told, ObjectNode answer) {
        int number = told.path("producer").asInt();
        KafkaProducer<byte[], byte[]> producer = producers.get(number);
        answer.putNull("ok");
        switch (told.get("do").asText()) {
            case "open" -> open(number, told);
            case "begin" -> producer.beginTransaction();
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            case "send" -> send(producer, told);
            case "take" -> answer.put("ok", take(told));
            case "offsets" -> offsets(producer);
            case "read" -> answer.set("ok", read(told));
            default -> throw new IllegalArgumentException(told.toString());
        }
    }

    private void open(int number, JsonNode told) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("transactional.id", told.get("id").asText());
        settings.put("transaction.timeout.ms", told.get("timeout_ms").asText());
        settings.put("max.block.ms", String.valueOf(PATIENCE_MS));
        settings.put("linger.ms", "0");
        var made = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        producers.put(number, made);
        made.initTransactions();
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, JsonNode told) {
        int at = 0;
        for (JsonNode value : told.get("values")) {
            byte[] bytes = value.asText().getBytes(StandardCharsets.UTF_8);
            producer.send(new ProducerRecord<>(told.get("topic").asText(), at++ % 2, null, bytes));
        }
        producer.flush();
    }

    private int take(JsonNode told) {
        member = Client.consumer(
                bootstrap,
                Map.of("group.id", told.get("group").asText(), "isolation.level", "read_committed"));
        member.subscribe(List.of(told.get("topic").asText()));
        return poll(member, told.get("count").asInt()).size();
    }

    private void offsets(KafkaProducer<byte[], byte[]> producer) {
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        for (TopicPartition partition : member.assignment()) {
            positions.put(partition, new OffsetAndMetadata(member.position(partition)));
        }
        try (var taken = member) {
            producer.sendOffsetsToTransaction(positions, taken.groupMetadata());
        }
    }

    private ArrayNode read(JsonNode told) {
        String topic = told.get("topic").asText();
        List<TopicPartition> both = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
        Map<String, String> isolation = Map.of("isolation.level", told.get("isolation").asText());
        ArrayNode list = Json.object().putArray("values");
        try (var consumer = Client.consumer(bootstrap, isolation)) {
            consumer.assign(both);
            consumer.seekToBeginning(both);
            poll(consumer, told.get("count").asInt()).forEach(list::add);
        }
        return list;
    }

    private static List<String> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<String> values = new ArrayList<>();
        long end = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (values.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200))
                    .forEach(record -> values.add(new String(record.value(), StandardCharsets.UTF_8)));
        }
        return values;
    }
}
