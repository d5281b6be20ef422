import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Jobs, results and records as one line of JSON each. */
final class Json {
    static final ObjectMapper MAPPER = new ObjectMapper();
    private static final ObjectWriter PRINTER =
            MAPPER.writer().without(JsonGenerator.Feature.AUTO_CLOSE_TARGET);
    static final BufferedReader INPUT =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private Json() {}

    static ObjectNode object() {
        return MAPPER.createObjectNode();
    }

    /** Returns the next line of standard input, null at its end. */
    static JsonNode next() throws IOException {
        String line = INPUT.readLine();
        return line == null ? null : MAPPER.readTree(line);
    }

    static synchronized void print(JsonNode node) {
        try {
            PRINTER.writeValue(System.out, node);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        System.out.println();
        System.out.flush();
    }

    static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    static ProducerRecord<byte[], byte[]> toSend(String topic, JsonNode node) {
        Long timestamp = node.get("t").isNull() ? null : node.get("t").asLong();
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                topic, node.get("p").asInt(), timestamp, bytes(node.get("k")), bytes(node.get("v")));
        for (JsonNode header : node.get("h")) {
            record.headers().add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
        }
        return record;
    }

    static ObjectNode read(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = object();
        node.put("p", record.partition());
        node.put("k", text(record.key()));
        node.put("v", text(record.value()));
        ArrayNode headers = node.putArray("h");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
        node.put("t", record.timestamp());
        node.put("o", record.offset());
        return node;
    }

    /** Returns the number that a value written by `hold` starts with, -1 without one. */
    static int number(byte[] value) {
        if (value == null) {
            return -1;
        }
        return Integer.parseInt(new String(value, StandardCharsets.UTF_8).split(" ", 2)[0]);
    }

    static byte[] numbered(int number) {
        return (number + " " + ".".repeat(200)).getBytes(StandardCharsets.UTF_8);
    }
}
