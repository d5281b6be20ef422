// franz-go: one newest version of everything, fetch sessions, and its own view of each KIP.
package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"mainspring-compat/roles"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

type client struct{ bootstrap string }

func (c client) seeds() []string { return strings.Split(c.bootstrap, ",") }

func (c client) connect(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.seeds()...),
		kgo.AllowAutoTopicCreation(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}, options...)...)
}

func (c client) producer(codec, acks string) (*kgo.Client, error) {
	options := []kgo.Opt{kgo.ProducerBatchCompression(codecs[codec])}
	switch acks {
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "all":
		options = append(options, kgo.DisableIdempotentWrite())
	}
	return c.connect(options...)
}

func toSend(topic string, record roles.Record) *kgo.Record {
	send := &kgo.Record{Topic: topic, Partition: record.Partition, Key: record.Key, Value: record.Value}
	for _, header := range record.Headers {
		send.Headers = append(send.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	if record.Timestamp != nil {
		send.Timestamp = time.UnixMilli(*record.Timestamp)
	}
	return send
}

func toRecord(read *kgo.Record) roles.Record {
	timestamp := read.Timestamp.UnixMilli()
	record := roles.Record{
		Partition: read.Partition,
		Key:       read.Key,
		Value:     read.Value,
		Timestamp: &timestamp,
		Offset:    read.Offset,
	}
	for _, header := range read.Headers {
		record.Headers = append(record.Headers, roles.Header{Name: header.Key, Value: header.Value})
	}
	return record
}

func (c client) Write(topic string, records []roles.Record, codec, acks string) ([]int64, error) {
	producer, err := c.producer(codec, acks)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	send := make([]*kgo.Record, len(records))
	for at, record := range records {
		send[at] = toSend(topic, record)
	}
	results := producer.ProduceSync(context.Background(), send...)
	offsets := make([]int64, len(records))
	for at, record := range send {
		offsets[at] = record.Offset
	}
	return offsets, results.FirstErr()
}

func (c client) Read(topic string, partitions int32, count int, timeout time.Duration) ([]roles.Record, error) {
	from := map[int32]kgo.Offset{}
	for partition := range partitions {
		from[partition] = kgo.NewOffset().AtStart()
	}
	return c.read(topic, from, count, timeout)
}

func (c client) read(topic string, from map[int32]kgo.Offset, count int, timeout time.Duration) ([]roles.Record, error) {
	consumer, err := c.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	limit, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	records := []roles.Record{}
	for len(records) < count && limit.Err() == nil {
		consumer.PollFetches(limit).EachRecord(func(read *kgo.Record) {
			records = append(records, toRecord(read))
		})
	}
	return records, nil
}

func (c client) Lookup(topic string, partition int32, timestamp int64) (int64, *roles.Record, error) {
	connection, err := c.connect()
	if err != nil {
		return 0, nil, err
	}
	defer connection.Close()
	admin := kadm.NewClient(connection)
	listed, err := admin.ListOffsetsAfterMilli(context.Background(), timestamp, topic)
	if err != nil {
		return 0, nil, err
	}
	found, _ := listed.Lookup(topic, partition)
	if found.Err != nil {
		return 0, nil, found.Err
	}
	// Where nothing is as late, the library answers the end of the partition.
	if found.Timestamp == -1 {
		return found.Offset, nil, nil
	}
	from := map[int32]kgo.Offset{partition: kgo.NewOffset().At(found.Offset)}
	records, err := c.read(topic, from, 1, 10*time.Second)
	if err != nil || len(records) == 0 {
		return found.Offset, nil, err
	}
	return found.Offset, &records[0], nil
}

func (c client) Hold(topic string, count int, pause time.Duration) (int, error) {
	producer, err := c.producer("none", "idempotent")
	if err != nil {
		return 0, err
	}
	defer producer.Close()
	var lock sync.Mutex
	acked := 0
	for number := range count {
		record := &kgo.Record{Topic: topic, Value: roles.Numbered(number)}
		producer.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err == nil {
				acked++
			}
		})
		time.Sleep(pause)
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = producer.Flush(limit)
	lock.Lock()
	defer lock.Unlock()
	return acked, err
}

func (c client) Admin(topic, group string) ([]roles.Step, func(), error) {
	connection, err := c.connect()
	if err != nil {
		return nil, nil, err
	}
	admin := kadm.NewClient(connection)
	all := context.Background()
	retention, bytes := "3600000", "2000000"
	create := func() error {
		configs := map[string]*string{"retention.ms": &retention}
		_, err := admin.CreateTopic(all, 3, 1, configs, topic)
		return err
	}
	// Topics with their partitions; the admin client answers from its cache for a while.
	topics := func() (map[string]int, error) {
		found, err := kmsg.NewPtrMetadataRequest().RequestWith(all, connection)
		if err != nil {
			return nil, err
		}
		counts := map[string]int{}
		for _, one := range found.Topics {
			counts[*one.Topic] = len(one.Partitions)
		}
		return counts, nil
	}
	partitions := func() (any, error) {
		found, err := topics()
		return found[topic], err
	}
	listed := func() (bool, error) {
		found, err := topics()
		_, there := found[topic]
		return there, err
	}
	config := func(name string) (any, error) {
		found, err := admin.DescribeTopicConfigs(all, topic)
		if err != nil {
			return nil, err
		}
		one, err := found.On(topic, nil)
		for _, config := range one.Configs {
			if config.Key == name {
				return config.MaybeValue(), err
			}
		}
		return nil, err
	}
	offset := func(list func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error) {
		found, err := list(all, topic)
		if err != nil {
			return 0, err
		}
		one, _ := found.Lookup(topic, 0)
		return one.Offset, one.Err
	}
	steps := []roles.Step{
		{Name: "create", Work: func() (any, error) { return roles.Check(true, create()) }},
		{Name: "create again", Work: func() (any, error) { return errors.Is(create(), kerr.TopicAlreadyExists), nil }},
		{Name: "list", Work: func() (any, error) { return listed() }},
		{Name: "partitions", Work: partitions},
		{Name: "config", Work: func() (any, error) { return config("retention.ms") }},
		{Name: "alter", Work: func() (any, error) {
			change := []kadm.AlterConfig{{Name: "max.message.bytes", Value: &bytes}}
			answers, err := admin.AlterTopicConfigs(all, change, topic)
			if err != nil {
				return nil, err
			}
			if answers[0].Err != nil {
				return nil, answers[0].Err
			}
			return config("max.message.bytes")
		}},
		{Name: "add partitions", Work: func() (any, error) {
			answers, err := admin.UpdatePartitions(all, 5, topic)
			if err != nil {
				return nil, err
			}
			if err := answers.Error(); err != nil {
				return nil, err
			}
			return partitions()
		}},
		{Name: "produce", Work: func() (any, error) {
			var records []*kgo.Record
			for at := range 10 {
				records = append(records, &kgo.Record{Topic: topic, Value: roles.Numbered(at)})
			}
			return roles.Check(true, connection.ProduceSync(all, records...).FirstErr())
		}},
		{Name: "delete records", Work: func() (any, error) {
			before := kadm.Offsets{}
			before.Add(kadm.Offset{Topic: topic, At: 4})
			answers, err := admin.DeleteRecords(all, before)
			if err != nil {
				return nil, err
			}
			if err := answers.Error(); err != nil {
				return nil, err
			}
			return offset(admin.ListStartOffsets)
		}},
		{Name: "latest", Work: func() (any, error) { return offset(admin.ListEndOffsets) }},
		{Name: "directory", Work: func() (any, error) {
			found, err := admin.DescribeAllLogDirs(all, nil)
			return roles.Check(len(found) == 1, err)
		}},
		{Name: "cluster", Work: func() (any, error) {
			brokers, err := admin.ListBrokers(all)
			return len(brokers), err
		}},
	}
	if group != "" {
		steps = append(steps, groupSteps(admin, topic, group, offset)...)
	}
	steps = append(steps, roles.Step{Name: "delete topic", Work: func() (any, error) {
		if _, err := admin.DeleteTopic(all, topic); err != nil {
			return nil, err
		}
		there, err := listed()
		return !there, err
	}})
	return steps, connection.Close, nil
}

func groupSteps(
	admin *kadm.Client,
	topic, group string,
	offset func(func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error),
) []roles.Step {
	all := context.Background()
	committed := func() (kadm.OffsetResponse, error) {
		found, err := admin.FetchOffsets(all, group)
		if err != nil {
			return kadm.OffsetResponse{}, err
		}
		one, _ := found.Lookup(topic, 0)
		return one, one.Err
	}
	listed := func() (bool, error) {
		groups, err := admin.ListGroups(all)
		_, there := groups[group]
		return there, err
	}
	return []roles.Step{
		{Name: "commit", Work: func() (any, error) {
			offsets := kadm.Offsets{}
			offsets.Add(kadm.Offset{Topic: topic, At: 7, LeaderEpoch: -1, Metadata: "note"})
			answers, err := admin.CommitOffsets(all, group, offsets)
			if err != nil {
				return nil, err
			}
			if err := answers.Error(); err != nil {
				return nil, err
			}
			one, err := committed()
			return one.At, err
		}},
		{Name: "metadata", Work: func() (any, error) {
			one, err := committed()
			return one.Metadata, err
		}},
		{Name: "lag", Work: func() (any, error) {
			lags, err := admin.Lag(all, group)
			if err != nil {
				return nil, err
			}
			found, _ := lags[group].Lag.Lookup(topic, 0)
			return found.Lag, found.Err
		}},
		{Name: "list groups", Work: func() (any, error) { return listed() }},
		{Name: "group state", Work: func() (any, error) {
			groups, err := admin.DescribeGroups(all, group)
			return groups[group].State, err
		}},
		{Name: "delete group", Work: func() (any, error) {
			answer, err := admin.DeleteGroup(all, group)
			if err != nil {
				return nil, err
			}
			if answer.Err != nil {
				return nil, answer.Err
			}
			there, err := listed()
			return !there, err
		}},
	}
}

type member struct {
	client    *kgo.Client
	stop      context.CancelFunc
	done      chan struct{}
	lock      sync.Mutex
	positions map[int32]int64
	owned     map[int32]bool
}

func (m *member) change(partitions []int32, owned bool) []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, partition := range partitions {
		if owned {
			m.owned[partition] = true
		} else {
			delete(m.owned, partition)
			delete(m.positions, partition)
		}
	}
	var list []int32
	for partition := range m.owned {
		list = append(list, partition)
	}
	return list
}

func (c client) Join(session roles.Session, at int, events roles.Events) (roles.Member, error) {
	m := &member{done: make(chan struct{}), positions: map[int32]int64{}, owned: map[int32]bool{}}
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		events.Assigned(m.change(partitions[session.Topic], false))
	}
	balancer := kgo.RangeBalancer()
	if session.Strategy == "cooperative-sticky" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(session.Group),
		kgo.ConsumeTopics(session.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.Balancers(balancer),
		kgo.SessionTimeout(time.Duration(session.SessionMs) * time.Millisecond),
		kgo.RebalanceTimeout(time.Duration(session.SessionMs) * time.Millisecond),
		kgo.HeartbeatInterval(time.Duration(session.HeartbeatMs) * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			events.Assigned(m.change(partitions[session.Topic], true))
		}),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	}
	if name := session.InstanceID(at); name != "" {
		options = append(options, kgo.InstanceID(name))
	}
	var err error
	if m.client, err = c.connect(options...); err != nil {
		return nil, err
	}
	polling, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		defer close(m.done)
		for polling.Err() == nil {
			m.client.PollFetches(polling).EachRecord(func(read *kgo.Record) {
				m.lock.Lock()
				m.positions[read.Partition] = read.Offset + 1
				m.lock.Unlock()
				events.Record(read.Partition, read.Offset, read.Value)
			})
		}
	}()
	return m, nil
}

func (m *member) Commit() (map[int32]int64, error) {
	m.lock.Lock()
	offsets := map[int32]int64{}
	for partition, position := range m.positions {
		offsets[partition] = position
	}
	m.lock.Unlock()
	limit, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return offsets, m.client.CommitUncommittedOffsets(limit)
}

func (m *member) Leave() error {
	m.stop()
	<-m.done
	m.client.Close()
	return nil
}

func main() { roles.Main("franz-go", func(bootstrap string) roles.Client { return client{bootstrap} }) }
