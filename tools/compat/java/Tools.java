import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the command line tools of Apache Kafka, one after the other, in one Java machine: starting one for
 * each would take longer than what they do.
 */
public final class Tools {
    private static final class Ended extends RuntimeException {}

    /** What the tool at work ended with; some catch the exception that stands for the end. */
    private static Integer ended;

    private Tools() {}

    private static void end(int code, String message) {
        ended = ended == null ? code : ended;
        throw new Ended();
    }

    /** Reads lines with the words of a command each, and prints a line with its result. */
    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure(Tools::end);
        Exit.setHaltProcedure(Tools::end);
        Exit.setShutdownHookAdder((name, hook) -> {});
        PrintStream out = System.out;
        for (JsonNode line = Json.next(); line != null; line = Json.next()) {
            List<String> words = new ArrayList<>();
            line.forEach(word -> words.add(word.asText()));
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream both = new PrintStream(said, true, StandardCharsets.UTF_8);
            System.setOut(both);
            System.setErr(both);
            int code = scala(both, () -> run(words.get(0), words.subList(1, words.size())));
            ObjectNode result = Json.object().put("code", code);
            ArrayNode lines = result.putArray("lines");
            said.toString(StandardCharsets.UTF_8).lines().forEach(lines::add);
            out.println(result);
            out.flush();
        }
        System.exit(0);
    }

    /** Redirects what tools in Scala print, too. */
    private static int scala(PrintStream to, java.util.function.IntSupplier work) {
        return scala.Console.withOut(to, () -> work.getAsInt());
    }

    private static int run(String name, List<String> words) {
        ended = null;
        try {
            Object main = words.toArray(new String[0]);
            Class.forName(name).getMethod("main", String[].class).invoke(null, main);
        } catch (InvocationTargetException error) {
            if (!(error.getCause() instanceof Ended)) {
                System.err.println(error.getCause());
                return -1;
            }
        } catch (ReflectiveOperationException | LinkageError error) {
            System.err.println(error);
            return -1;
        }
        return ended == null ? 0 : ended;
    }
}
