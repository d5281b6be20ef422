import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** Members of a group, told by lines on standard input what to do; each has a thread of its own. */
final class Members implements Runnable {
    private final String bootstrap;
    private final JsonNode job;
    private final int member;
    private final BlockingQueue<String> commands = new LinkedBlockingQueue<>();
    private final Thread thread = new Thread(this);

    private Members(String bootstrap, JsonNode job, int member) {
        this.bootstrap = bootstrap;
        this.job = job;
        this.member = member;
        thread.start();
    }

    static ObjectNode run(String bootstrap, JsonNode job) throws Exception {
        Map<Integer, Members> members = new HashMap<>();
        for (JsonNode line = Json.next(); line != null; line = Json.next()) {
            int member = line.get("member").asInt();
            String what = line.get("do").asText();
            if (what.equals("join")) {
                members.put(member, new Members(bootstrap, job, member));
            } else {
                members.get(member).commands.add(what);
            }
        }
        for (Members member : members.values()) {
            member.commands.add("leave");
            member.thread.join();
        }
        return Json.object().put("ended", true);
    }

    private Map<String, String> settings() {
        Map<String, String> settings = new HashMap<>();
        settings.put("group.id", job.get("group").asText());
        settings.put("metadata.max.age.ms", "1000");
        if (job.path("protocol").asText().equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            boolean cooperative = job.get("strategy").asText().equals("cooperative-sticky");
            Class<?> assignor = cooperative ? CooperativeStickyAssignor.class : RangeAssignor.class;
            settings.put("partition.assignment.strategy", assignor.getName());
            settings.put("session.timeout.ms", job.get("session_ms").asText());
            settings.put("heartbeat.interval.ms", job.get("heartbeat_ms").asText());
        }
        if (job.path("static").asBoolean()) {
            settings.put("group.instance.id", "member-" + member);
        }
        return settings;
    }

    @Override
    public void run() {
        try (var consumer = Client.consumer(bootstrap, settings())) {
            consumer.subscribe(List.of(job.get("topic").asText()), new Listener(consumer));
            boolean on = true;
            while (on) {
                for (var record : consumer.poll(Duration.ofMillis(50))) {
                    ObjectNode event = event("record");
                    event.put("p", record.partition()).put("o", record.offset());
                    Json.print(event.put("n", Json.number(record.value())));
                }
                String command = commands.poll();
                if (command != null && command.equals("commit")) {
                    commit(consumer);
                }
                on = command == null || !command.equals("leave");
            }
        } catch (WakeupException error) {
            Json.print(event("failed").put("what", "poll").put("why", error.toString()));
        } catch (RuntimeException error) {
            Json.print(event("failed").put("what", "run").put("why", error.toString()));
        }
        Json.print(event("left"));
    }

    private void commit(KafkaConsumer<byte[], byte[]> consumer) {
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        ObjectNode event = event("committed");
        ObjectNode offsets = event.putObject("offsets");
        for (TopicPartition partition : consumer.assignment()) {
            long position = consumer.position(partition);
            positions.put(partition, new OffsetAndMetadata(position));
            offsets.put(String.valueOf(partition.partition()), position);
        }
        try {
            consumer.commitSync(positions);
            Json.print(event);
        } catch (RuntimeException error) {
            Json.print(event("failed").put("what", "commit").put("why", error.toString()));
        }
    }

    private ObjectNode event(String name) {
        return Json.object().put("event", name).put("member", member);
    }

    private final class Listener implements ConsumerRebalanceListener {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final TreeMap<Integer, TopicPartition> owned = new TreeMap<>();

        private Listener(KafkaConsumer<byte[], byte[]> consumer) {
            this.consumer = consumer;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> owned.put(partition.partition(), partition));
            tell();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> owned.remove(partition.partition()));
            tell();
        }

        private void tell() {
            ObjectNode event = event("assigned");
            ArrayNode list = event.putArray("partitions");
            owned.keySet().forEach(list::add);
            Json.print(event);
        }
    }
}
