import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The official Java clients as a command: one JSON object a line for each message sent or received. See ../README.md. */
public final class Interop {
    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();

    private final Options options;

    private Interop(Options options) {
        this.options = options;
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 0) {
            throw new IllegalArgumentException(
                "say send, receive, change-invisible, remoting-send, send-compressed, pull-receive, pull-member or push-member,"
                + " then options; see ../README.md");
        }
        Interop interop = new Interop(new Options(Arrays.asList(arguments).subList(1, arguments.length)));
        switch (arguments[0]) {
            case "send": interop.send(); break;
            case "receive": interop.receive(); break;
            case "change-invisible": interop.changeInvisible(); break;
            case "remoting-send": interop.remotingSend(); break;
            case "send-compressed": interop.sendCompressed(); break;
            case "pull-receive": interop.pullReceive(); break;
            case "pull-member": interop.pullMember(); break;
            case "push-member": interop.pushMember(); break;
            default: throw new IllegalArgumentException("unknown command " + arguments[0]);
        }
        // The clients leave threads behind that would hold the process for a while.
        System.exit(0);
    }

    // ---- gRPC ------------------------------------------------------------------------------------------------------

    private ClientConfiguration configuration() {
        return ClientConfiguration.newBuilder().setEndpoints(options.text("endpoint")).enableSsl(false).build();
    }

    private void send() throws Exception {
        String topic = options.text("topic");
        try (Producer producer =
                PROVIDER.newProducerBuilder().setClientConfiguration(configuration()).setTopics(topic).build()) {
            for (int i = 0; i < options.number("count", 1); i++) {
                byte[] body = body(i, 0);
                MessageBuilder message = PROVIDER.newMessageBuilder().setTopic(topic).setBody(body);
                options.list("tag").forEach(message::setTag);
                if (!options.list("key").isEmpty()) {
                    message.setKeys(options.list("key").toArray(new String[0]));
                }
                options.properties().forEach(message::addProperty);
                options.list("message-group").forEach(message::setMessageGroup);
                if (options.has("delay-seconds")) {
                    message.setDeliveryTimestamp(System.currentTimeMillis() + 1000L * options.number("delay-seconds", 0));
                }
                if (options.has("priority")) {
                    message.setPriority((int) options.number("priority", 0));
                }
                SendReceipt receipt = producer.send(message.build());
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("event", "sent");
                line.put("message_id", receipt.getMessageId().toString());
                putBody(line, body);
                print(line);
            }
        }
    }

    private SimpleConsumer consumer() throws Exception {
        String expression = options.text("tag-filter", "*");
        FilterExpression filter = options.has("sql-filter")
            ? new FilterExpression(options.text("sql-filter"), FilterExpressionType.SQL92)
            : new FilterExpression(expression, FilterExpressionType.TAG);
        return PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration())
            .setConsumerGroup(options.text("group"))
            .setAwaitDuration(Duration.ofSeconds(options.number("await-seconds", 5)))
            .setSubscriptionExpressions(Collections.singletonMap(options.text("topic"), filter))
            .build();
    }

    private Duration invisible() {
        return Duration.ofSeconds(options.number("invisible-seconds", 30));
    }

    private void receive() throws Exception {
        long count = options.number("count", 1);
        long received = 0;
        Deadline deadline = deadline();
        try (SimpleConsumer consumer = consumer()) {
            while (received < count && !deadline.passed()) {
                int batch = (int) Math.min(32, count - received);
                for (MessageView message : consumer.receive(batch, invisible())) {
                    boolean ack = !options.has("no-ack");
                    if (ack) {
                        consumer.ack(message);
                    }
                    Map<String, Object> line = describe(message);
                    line.put("acked", ack);
                    print(line);
                    received++;
                }
            }
        }
        end(received, count);
    }

    /** Receives one message, asks for it again after some seconds, and receives until it comes back. */
    private void changeInvisible() throws Exception {
        Duration again = Duration.ofSeconds(options.number("change-to-seconds", 3));
        Deadline deadline = deadline();
        long received = 0;
        try (SimpleConsumer consumer = consumer()) {
            String id = null;
            long changedAt = 0;
            while (received < 2 && !deadline.passed()) {
                for (MessageView message : consumer.receive(1, invisible())) {
                    boolean first = id == null;
                    if (!first && !id.equals(message.getMessageId().toString())) {
                        continue;
                    }
                    Map<String, Object> line = describe(message);
                    if (first) {
                        id = message.getMessageId().toString();
                        consumer.changeInvisibleDuration(message, again);
                        changedAt = System.nanoTime();
                        line.put("changed_to_seconds", again.getSeconds());
                    } else {
                        line.put("after_ms", (System.nanoTime() - changedAt) / 1_000_000);
                        consumer.ack(message);
                        line.put("acked", true);
                    }
                    print(line);
                    received++;
                }
            }
        }
        end(received, 2);
    }

    private static Map<String, Object> describe(MessageView message) {
        byte[] body = bytes(message.getBody());
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("event", "received");
        line.put("message_id", message.getMessageId().toString());
        line.put("topic", message.getTopic());
        putBody(line, body);
        line.put("tag", message.getTag().orElse(null));
        line.put("keys", new ArrayList<>(message.getKeys()));
        line.put("properties", new TreeMap<>(message.getProperties()));
        line.put("message_group", message.getMessageGroup().orElse(null));
        line.put("delivery_attempt", message.getDeliveryAttempt());
        line.put("born_timestamp", message.getBornTimestamp());
        return line;
    }

    // ---- remoting --------------------------------------------------------------------------------------------------

    /** Small messages with the remoting client's producer: one by one, or as one batch. */
    private void remotingSend() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("interop-producer-" + System.nanoTime());
        producer.setNamesrvAddr(options.text("name-server"));
        producer.start();
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < options.number("count", 1); i++) {
            messages.add(message(body(i, 0)));
        }
        if (options.has("batch")) {
            SendResult result = producer.send(messages);
            for (String id : result.getMsgId().split(",")) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("event", "sent");
                line.put("message_id", id);
                line.put("queue_id", result.getMessageQueue().getQueueId());
                print(line);
            }
        } else {
            for (Message message : messages) {
                SendResult result = producer.send(message);
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("event", "sent");
                line.put("message_id", result.getMsgId());
                line.put("queue_id", result.getMessageQueue().getQueueId());
                line.put("queue_offset", result.getQueueOffset());
                putBody(line, message.getBody());
                print(line);
            }
        }
        producer.shutdown();
    }

    private Message message(byte[] body) {
        String keys = String.join(" ", options.list("key"));
        Message message = new Message(options.text("topic"), options.text("tag", null), keys, body);
        options.properties().forEach(message::putUserProperty);
        return message;
    }

    /** Bodies over the threshold are compressed by the client; the broker stores them so, with the codec in the flags. */
    private void sendCompressed() throws Exception {
        String codec = options.text("codec", "zlib");
        DefaultMQProducer producer = new DefaultMQProducer("interop-producer-" + System.nanoTime());
        producer.setNamesrvAddr(options.text("name-server"));
        producer.setCompressMsgBodyOverHowmuch(4096);
        producer.setCompressType(CompressionType.of(codec.toUpperCase()));
        producer.start();
        for (int i = 0; i < options.number("count", 1); i++) {
            byte[] body = body(i, 8192);
            SendResult result = producer.send(message(body));
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("event", "sent");
            line.put("message_id", result.getMsgId());
            line.put("codec", codec);
            line.put("queue_id", result.getMessageQueue().getQueueId());
            line.put("queue_offset", result.getQueueOffset());
            putBody(line, body);
            print(line);
        }
        producer.shutdown();
    }

    /** Reads with the remoting client's pull consumer, which decompresses by the flags. */
    private void pullReceive() throws Exception {
        long count = options.number("count", 1);
        long received = 0;
        Deadline deadline = deadline();
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(options.text("group"));
        consumer.setNamesrvAddr(options.text("name-server"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        if (options.has("sql-filter")) {
            consumer.subscribe(options.text("topic"), MessageSelector.bySql(options.text("sql-filter")));
        } else {
            consumer.subscribe(options.text("topic"), options.text("tag-filter", "*"));
        }
        consumer.start();
        while (received < count && !deadline.passed()) {
            for (MessageExt message : consumer.poll(1000)) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("event", "received");
                line.put("message_id", message.getMsgId());
                line.put("topic", message.getTopic());
                putBody(line, message.getBody());
                line.put("tag", message.getTags());
                line.put("keys", message.getKeys() == null ? List.of() : List.of(message.getKeys().split(" ")));
                line.put("properties", new TreeMap<>(message.getProperties()));
                line.put("queue_id", message.getQueueId());
                line.put("queue_offset", message.getQueueOffset());
                line.put("sys_flag", message.getSysFlag());
                print(line);
                received++;
            }
        }
        if (!options.has("no-ack")) {
            consumer.commit();
        }
        consumer.shutdown();
        end(received, count);
    }

    /** A member of a group that pulls until something comes on standard input, and then leaves in good order. */
    private void pullMember() throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(options.text("group"));
        consumer.setNamesrvAddr(options.text("name-server"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        consumer.subscribe(options.text("topic"), options.text("tag-filter", "*"));
        consumer.start();
        Deadline deadline = deadline();
        TreeSet<String> held = null;
        while (System.in.available() == 0 && !deadline.passed()) {
            for (MessageExt message : consumer.poll(100)) {
                print(pulled(message));
            }
            consumer.commit();
            TreeSet<String> now = new TreeSet<>();
            for (MessageQueue queue : consumer.assignment()) {
                now.add(queue.getTopic() + "@" + queue.getBrokerName() + ":" + queue.getQueueId());
            }
            if (!now.equals(held)) {
                held = now;
                print(new LinkedHashMap<>(Map.of("event", "assigned", "queues", now)));
            }
        }
        consumer.shutdown();
        print(new LinkedHashMap<>(Map.of("event", "left")));
    }

    /** A member of a group to which messages are pushed, until something comes on standard input. */
    private void pushMember() throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("group"));
        consumer.setNamesrvAddr(options.text("name-server"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(options.text("topic"), options.text("tag-filter", "*"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> print(pulled(message)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        print(new LinkedHashMap<>(Map.of("event", "started")));
        Deadline deadline = deadline();
        while (System.in.available() == 0 && !deadline.passed()) {
            Thread.sleep(50);
        }
        consumer.shutdown();
        print(new LinkedHashMap<>(Map.of("event", "left")));
    }

    private static Map<String, Object> pulled(MessageExt message) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("event", "received");
        line.put("message_id", message.getMsgId());
        putBody(line, message.getBody());
        line.put("queue_id", message.getQueueId());
        line.put("queue_offset", message.getQueueOffset());
        return line;
    }

    // ---- both ------------------------------------------------------------------------------------------------------

    private byte[] body(int index, long defaultSize) {
        StringBuilder body = new StringBuilder(options.text("body-prefix", "body-")).append(index);
        long size = options.number("body-size", defaultSize);
        while (body.length() < size) {
            body.append(' ').append(body.length());
        }
        if (size > 0) {
            body.setLength((int) Math.max(size, 1));
        }
        return body.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    /** `body` is there for bodies that are UTF-8, `body_base64` always. */
    private static void putBody(Map<String, Object> line, byte[] body) {
        String text = new String(body, StandardCharsets.UTF_8);
        line.put("body", Arrays.equals(text.getBytes(StandardCharsets.UTF_8), body) ? text : null);
        line.put("body_base64", Base64.getEncoder().encodeToString(body));
        line.put("body_length", body.length);
    }

    private Deadline deadline() {
        return new Deadline(options.number("timeout-seconds", 30));
    }

    private static void end(long received, long expected) {
        if (received < expected) {
            System.err.println("the time is over: received " + received + " of " + expected);
            System.exit(3);
        }
    }

    private static synchronized void print(Map<String, Object> line) {
        System.out.println(GSON.toJson(line));
        System.out.flush();
    }

    private static final class Deadline {
        private final long at;

        Deadline(long seconds) {
            at = System.nanoTime() + seconds * 1_000_000_000L;
        }

        boolean passed() {
            return System.nanoTime() - at > 0;
        }
    }

    /** `--name value`, repeatable; `--ack`, `--no-ack` and `--batch` stand alone. */
    private static final class Options {
        private final Map<String, List<String>> values = new HashMap<>();

        Options(List<String> arguments) {
            for (int i = 0; i < arguments.size(); i++) {
                String name = arguments.get(i);
                if (!name.startsWith("--")) {
                    throw new IllegalArgumentException("expected an option, found " + name);
                }
                name = name.substring(2);
                String value = "";
                if (!name.equals("ack") && !name.equals("no-ack") && !name.equals("batch")) {
                    if (++i == arguments.size()) {
                        throw new IllegalArgumentException("--" + name + " needs a value");
                    }
                    value = arguments.get(i);
                }
                values.computeIfAbsent(name, n -> new ArrayList<>()).add(value);
            }
        }

        boolean has(String name) {
            return values.containsKey(name);
        }

        List<String> list(String name) {
            return values.getOrDefault(name, List.of());
        }

        String text(String name) {
            if (!has(name)) {
                throw new IllegalArgumentException("--" + name + " is missing");
            }
            return list(name).get(0);
        }

        String text(String name, String otherwise) {
            return has(name) ? text(name) : otherwise;
        }

        long number(String name, long otherwise) {
            return has(name) ? Long.parseLong(text(name)) : otherwise;
        }

        Map<String, String> properties() {
            Map<String, String> properties = new LinkedHashMap<>();
            for (String pair : list("property")) {
                int equals = pair.indexOf('=');
                if (equals < 1) {
                    throw new IllegalArgumentException("--property wants name=value, not " + pair);
                }
                properties.put(pair.substring(0, equals), pair.substring(equals + 1));
            }
            return properties;
        }
    }
}
