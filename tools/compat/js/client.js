// KafkaJS, the JavaScript client: the protocol by hand, and the old end of most version ranges.
//
// It can consume in groups only, so its readers are the sole members of a group of their own.
"use strict";

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";
const readline = require("node:readline");
const { CompressionTypes, CompressionCodecs, ConfigResourceTypes, Kafka, logLevel } = require("kafkajs");
const lz4 = require("lz4-napi");
const zstd = require("@bokuweb/zstd-wasm");

// Bytes that a batch may have, uncompressed, where its codec's header does not say.
const UNPACKED_BYTES = 8 << 20;
CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer, { defaultHeapSize: UNPACKED_BYTES })),
});
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const bytes = (text) => (text === null ? null : Buffer.from(text, "base64"));
const text = (data) => (data === null || data === undefined ? null : data.toString("base64"));

function toMessage(record) {
  const headers = {};
  for (const [name, value] of record.h) {
    const one = bytes(value);
    headers[name] = name in headers ? [].concat(headers[name], one) : one;
  }
  const message = { partition: record.p, key: bytes(record.k), value: bytes(record.v), headers };
  return record.t === null ? message : { ...message, timestamp: String(record.t) };
}

function toRecord(partition, message) {
  const headers = [];
  for (const [name, values] of Object.entries(message.headers ?? {})) {
    for (const value of [].concat(values)) headers.push([name, text(value)]);
  }
  return {
    p: partition,
    k: text(message.key),
    v: text(message.value),
    h: headers,
    t: Number(message.timestamp),
    o: Number(message.offset),
  };
}

const numberOf = (value) => Number((value ?? "-1").toString().split(" ", 1)[0]);
const numbered = (number) => `${number} ${".".repeat(200)}`;

class Client {
  constructor(bootstrap) {
    this.kafka = new Kafka({
      clientId: "compat",
      brokers: [bootstrap],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 100 },
    });
    this.groups = 0;
  }

  async producing(idempotent, work) {
    const options = idempotent ? { idempotent, maxInFlightRequests: 1 } : {};
    const producer = this.kafka.producer({ ...options, allowAutoTopicCreation: true });
    await producer.connect();
    try {
      return await work(producer);
    } finally {
      await producer.disconnect();
    }
  }

  async write(job) {
    const sent = {};
    for (const [topic, { codec, acks, records }] of Object.entries(job.topics)) {
      sent[topic] = await this.producing(acks === "idempotent", (producer) =>
        this.send(producer, topic, codec, acks, records),
      );
    }
    return { sent };
  }

  async send(producer, topic, codec, acks, records) {
    const answers = await producer.send({
      topic,
      acks: { 0: 0, 1: 1 }[acks] ?? -1,
      compression: CODECS[codec],
      messages: records.map(toMessage),
    });
    const next = {};
    for (const answer of answers ?? []) next[answer.partition] = Number(answer.baseOffset);
    return records.map((record) => (acks === "0" ? null : next[record.p]++));
  }

  // Reads topics from their beginning, or from `seeks`, until `enough` says so.
  async consume(topics, seeks, enough, timeout, readUncommitted = false) {
    const groupId = `kafkajs-${process.pid}-${Date.now()}-${this.groups++}`;
    const options = { maxWaitTimeInMs: 100, heartbeatInterval: 500, readUncommitted };
    const consumer = this.kafka.consumer({ groupId, ...options });
    await consumer.connect();
    const found = Object.fromEntries(topics.map((topic) => [topic, []]));
    try {
      await consumer.subscribe({ topics, fromBeginning: true });
      await new Promise((done, fail) => {
        const timer = setTimeout(done, timeout * 1000);
        const end = () => (clearTimeout(timer), done());
        consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || fail(payload.error));
        consumer
          .run({
            autoCommit: false,
            eachBatch: async ({ batch }) => {
              for (const message of batch.messages) found[batch.topic].push(toRecord(batch.partition, message));
              if (enough(found)) end();
            },
          })
          .then(() => seeks.forEach((seek) => consumer.seek(seek)), fail);
      });
    } finally {
      await consumer.disconnect();
    }
    return found;
  }

  async read(job) {
    const topics = Object.keys(job.topics);
    const enough = (found) => topics.every((topic) => found[topic].length >= job.topics[topic].count);
    const read = await this.consume(topics, [], enough, job.timeout ?? 60);
    for (const records of Object.values(read)) records.sort((one, two) => one.p - two.p || one.o - two.o);
    return { read };
  }

  async follow(job) {
    const enough = (found) => new Set(found[job.topic].map((record) => record.o)).size >= job.count;
    const end = Date.now() + job.timeout * 1000;
    for (;;) {
      try {
        const found = await this.consume([job.topic], [], enough, (end - Date.now()) / 1000);
        // Nothing is committed, so a group that had to be joined again starts again.
        const once = new Map(found[job.topic].map((record) => [record.o, numberOf(bytes(record.v))]));
        return { numbers: [...once.values()] };
      } catch (error) {
        // It gives up where the only broker is away at the moment it first joins.
        if (error.name !== "KafkaJSGroupCoordinatorNotFound" || Date.now() > end) throw error;
        await sleep(0.2);
      }
    }
  }

  async lookup(job) {
    return this.administer(async (admin) => {
      const answers = [];
      for (const [topic, partition, timestamp] of job.questions) {
        const all = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp);
        const offset = Number(all.find((one) => one.partition === partition).offset);
        let record = null;
        if (job.reads) {
          const seek = { topic, partition, offset: String(offset) };
          const enough = (found) => found[topic].some((one) => one.o >= offset);
          const found = await this.consume([topic], [seek], enough, 2);
          record = found[topic].find((one) => one.o >= offset) ?? null;
        }
        answers.push([offset, record]);
      }
      return { answers };
    });
  }

  async hold(job) {
    return this.producing(true, async (producer) => {
      let acked = 0;
      const sent = [];
      // One request at a time, or a batch that is sent again would come after a later one.
      let last = Promise.resolve();
      for (let number = 0; number < job.count; number++) {
        const messages = [{ partition: 0, value: numbered(number) }];
        last = last.then(() => producer.send({ topic: job.topic, messages })).then(() => acked++);
        sent.push(last);
        await sleep(job.pause);
      }
      await Promise.allSettled(sent);
      return { acked };
    });
  }

  async administer(work) {
    const admin = this.kafka.admin();
    await admin.connect();
    try {
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  }

  async admin(job) {
    return this.administer(async (admin) => {
      const { topic, group } = job;
      const steps = {};
      const step = async (name, work) => {
        try {
          steps[name] = await work();
        } catch (error) {
          steps[name] = `${error.name}: ${error.message}`;
        }
      };
      const created = { topic, numPartitions: 3, replicationFactor: 1 };
      created.configEntries = [{ name: "retention.ms", value: "3600000" }];
      const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
      const config = async (name) => {
        const found = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
        return found.resources[0].configEntries.find((entry) => entry.configName === name).configValue;
      };
      const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length;
      const ends = async () => (await admin.fetchTopicOffsets(topic)).find((one) => one.partition === 0);
      await step("create", () => admin.createTopics({ topics: [created] }));
      await step("create again", async () => !(await admin.createTopics({ topics: [created] })));
      await step("list", async () => (await admin.listTopics()).includes(topic));
      await step("partitions", partitions);
      await step("config", () => config("retention.ms"));
      await step("alter", async () => {
        // Replaces the whole set, so what was set at the creation is told again.
        const configEntries = [...created.configEntries, { name: "max.message.bytes", value: "2000000" }];
        await admin.alterConfigs({ resources: [{ ...resource, configEntries }], validateOnly: false });
        return config("max.message.bytes");
      });
      await step("add partitions", async () => {
        await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] });
        return partitions();
      });
      await step("produce", () =>
        this.producing(false, async (producer) => {
          const messages = Array.from({ length: 10 }, (_, at) => ({ partition: 0, value: numbered(at) }));
          return (await producer.send({ topic, messages })).length === 1;
        }),
      );
      await step("delete records", async () => {
        await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "4" }] });
        return Number((await ends()).low);
      });
      await step("latest", async () => Number((await ends()).high));
      if (group) {
        const committed = async () => {
          const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
          return Number(found.partitions.find((one) => one.partition === 0).offset);
        };
        await step("commit", async () => {
          await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: "7" }] });
          return committed();
        });
        await step("lag", async () => Number((await ends()).high) - (await committed()));
        await step("list groups", async () => (await admin.listGroups()).groups.some((one) => one.groupId === group));
        await step("group state", async () => (await admin.describeGroups([group])).groups[0].state);
        await step("delete group", async () => {
          await admin.deleteGroups([group]);
          return !(await admin.listGroups()).groups.some((one) => one.groupId === group);
        });
      }
      await step("delete topic", async () => {
        await admin.deleteTopics({ topics: [topic] });
        return !(await admin.listTopics()).includes(topic);
      });
      return { steps };
    });
  }

  // Members of a group, told by lines on standard input what to do.
  async session(job, lines) {
    const members = {};
    for await (const line of lines) {
      const { do: what, member } = JSON.parse(line);
      if (what === "join") members[member] = await this.join(job, member);
      if (what === "commit") await members[member].commit();
      if (what === "leave") await members[member].leave();
    }
    for (const member of Object.values(members)) await member.leave();
    return { ended: true };
  }

  // Producers in transactions, told by lines on standard input what to do.
  async transact(job, lines) {
    const transactions = new Transactions(this);
    for await (const line of lines) {
      const { do: what, ...told } = JSON.parse(line);
      let answer;
      try {
        answer = { ok: (await transactions[what](told)) ?? null };
      } catch (error) {
        const cause = error.cause ?? error;
        answer = { error: cause.type ?? cause.name, why: error.message };
      }
      console.log(JSON.stringify(answer));
    }
    return { ended: true };
  }

  async join(job, member) {
    const consumer = this.kafka.consumer({
      groupId: job.group,
      sessionTimeout: job.session_ms,
      rebalanceTimeout: job.session_ms,
      heartbeatInterval: job.heartbeat_ms,
      maxWaitTimeInMs: 100,
      allowAutoTopicCreation: false,
    });
    const tell = (event, more) => console.log(JSON.stringify({ event, member, ...more }));
    const positions = {};
    await consumer.connect();
    await consumer.subscribe({ topics: [job.topic], fromBeginning: true });
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      for (const partition of Object.keys(positions)) delete positions[partition];
      tell("assigned", { partitions: payload.memberAssignment[job.topic] ?? [] });
    });
    consumer.on(consumer.events.REBALANCING, () => tell("assigned", { partitions: [] }));
    await consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: 4,
      eachMessage: async ({ partition, message }) => {
        positions[partition] = Number(message.offset) + 1;
        tell("record", { p: partition, o: Number(message.offset), n: numberOf(message.value) });
      },
    });
    let left = false;
    return {
      commit: async () => {
        const offsets = { ...positions };
        const list = Object.entries(offsets).map(([partition, offset]) => ({
          topic: job.topic,
          partition: Number(partition),
          offset: String(offset),
        }));
        try {
          await consumer.commitOffsets(list);
          tell("committed", { offsets });
        } catch (error) {
          tell("failed", { what: "commit", why: `${error.name}: ${error.message}` });
        }
      },
      leave: async () => {
        if (left) return;
        left = true;
        await consumer.disconnect();
        tell("left", {});
      },
    };
  }
}

// A transaction is an object of its own here; the id is taken when the first one begins.
class Transactions {
  constructor(client) {
    this.client = client;
    this.producers = {};
    this.begun = {};
  }

  async open({ producer, id, timeout_ms: transactionTimeout }) {
    const options = { transactionalId: id, transactionTimeout, idempotent: true, maxInFlightRequests: 1 };
    const made = this.client.kafka.producer({ ...options, retry: { retries: 5 } });
    await made.connect();
    this.producers[producer] = made;
  }

  async begin({ producer }) {
    this.begun[producer] = await this.producers[producer].transaction();
  }

  async send({ producer, topic, values }) {
    const messages = values.map((value, at) => ({ value, partition: at % 2 }));
    await this.begun[producer].send({ topic, messages });
  }

  async commit({ producer }) {
    // Without one that was begun there is nothing to call but one that has ended.
    const transaction = this.begun[producer] ?? this.ended;
    await transaction.commit();
    this.ended = transaction;
  }

  async abort({ producer }) {
    await this.begun[producer].abort();
  }

  async take({ topic, group: groupId, count }) {
    const consumer = this.client.kafka.consumer({ groupId, maxWaitTimeInMs: 100, readUncommitted: false });
    const positions = {};
    let taken = 0;
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise((done, fail) => {
      setTimeout(done, 15000).unref();
      const eachMessage = async ({ partition, message }) => {
        positions[partition] = String(Number(message.offset) + 1);
        if (++taken === count) done();
      };
      consumer.run({ autoCommit: false, eachMessage }).catch(fail);
    });
    await consumer.disconnect();
    const partitions = Object.entries(positions).map(([at, offset]) => ({ partition: Number(at), offset }));
    this.taken = { consumerGroupId: groupId, topics: [{ topic, partitions }] };
    return taken;
  }

  async offsets({ producer }) {
    await this.begun[producer].sendOffsets(this.taken);
  }

  async read({ topic, isolation, count }) {
    const enough = (found) => found[topic].length >= count;
    const uncommitted = isolation === "read_uncommitted";
    const found = await this.client.consume([topic], [], enough, 15, uncommitted);
    return found[topic].map((record) => bytes(record.v).toString());
  }
}

async function main() {
  const words = process.argv.slice(2);
  const option = (name) => words[words.indexOf(name) + 1];
  await zstd.init();
  const client = new Client(option("--bootstrap"));
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const job = JSON.parse((await lines.next()).value);
  const result = await client[option("--role")](job, lines);
  process.stdout.write(`${JSON.stringify({ client: "kafkajs", ...result })}\n`, () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
