// Sarama: a client of its own line, older in some versions and alone in some habits.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"mainspring-compat/roles"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

type client struct{ bootstrap []string }

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = 1000
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Retry.Max = 1000
	config.Producer.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Retry.Backoff = 200 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	return config
}

func (c client) producer(codec, acks string) (sarama.SyncProducer, error) {
	config := settings()
	config.Producer.Compression = codecs[codec]
	switch acks {
	case "0":
		config.Producer.RequiredAcks = sarama.NoResponse
	case "1":
		config.Producer.RequiredAcks = sarama.WaitForLocal
	default:
		config.Producer.RequiredAcks = sarama.WaitForAll
	}
	// More than one request in flight may change the order when one is sent again.
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = acks == "idempotent"
	return sarama.NewSyncProducer(c.bootstrap, config)
}

// bytes keeps null and empty apart.
func bytes(data []byte) sarama.Encoder {
	if data == nil {
		return nil
	}
	return sarama.ByteEncoder(data)
}

func toSend(topic string, record roles.Record) *sarama.ProducerMessage {
	send := &sarama.ProducerMessage{
		Topic:     topic,
		Partition: record.Partition,
		Key:       bytes(record.Key),
		Value:     bytes(record.Value),
	}
	for _, header := range record.Headers {
		send.Headers = append(send.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
	}
	if record.Timestamp != nil {
		send.Timestamp = time.UnixMilli(*record.Timestamp)
	}
	return send
}

func toRecord(read *sarama.ConsumerMessage) roles.Record {
	timestamp := read.Timestamp.UnixMilli()
	record := roles.Record{
		Partition: read.Partition,
		Key:       read.Key,
		Value:     read.Value,
		Timestamp: &timestamp,
		Offset:    read.Offset,
	}
	for _, header := range read.Headers {
		record.Headers = append(record.Headers, roles.Header{Name: string(header.Key), Value: header.Value})
	}
	return record
}

func (c client) Write(topic string, records []roles.Record, codec, acks string) ([]int64, error) {
	producer, err := c.producer(codec, acks)
	if err != nil {
		return nil, err
	}
	send := make([]*sarama.ProducerMessage, len(records))
	for at, record := range records {
		send[at] = toSend(topic, record)
	}
	if err := producer.SendMessages(send); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	for at, message := range send {
		offsets[at] = message.Offset
	}
	return offsets, producer.Close()
}

func (c client) Read(topic string, partitions int32, count int, timeout time.Duration) ([]roles.Record, error) {
	from := map[int32]int64{}
	for partition := range partitions {
		from[partition] = sarama.OffsetOldest
	}
	return c.read(topic, from, count, timeout)
}

func (c client) read(topic string, from map[int32]int64, count int, timeout time.Duration) ([]roles.Record, error) {
	return c.readWith(settings(), topic, from, count, timeout)
}

func (c client) readWith(
	config *sarama.Config,
	topic string,
	from map[int32]int64,
	count int,
	timeout time.Duration,
) ([]roles.Record, error) {
	consumer, err := sarama.NewConsumer(c.bootstrap, config)
	if err != nil {
		return nil, err
	}
	messages := make(chan *sarama.ConsumerMessage)
	end := make(chan struct{})
	var readers sync.WaitGroup
	var claims []sarama.PartitionConsumer
	for partition, offset := range from {
		claim, err := consumer.ConsumePartition(topic, partition, offset)
		if err != nil {
			return nil, err
		}
		claims = append(claims, claim)
		readers.Add(2)
		go func() {
			defer readers.Done()
			for range claim.Errors() {
				// The library tries again by itself.
			}
		}()
		go func() {
			defer readers.Done()
			for message := range claim.Messages() {
				select {
				case messages <- message:
				case <-end:
				}
			}
		}()
	}
	records := []roles.Record{}
	late := time.After(timeout)
	for on := true; on && len(records) < count; {
		select {
		case message := <-messages:
			records = append(records, toRecord(message))
		case <-late:
			on = false
		}
	}
	close(end)
	for _, claim := range claims {
		claim.AsyncClose()
	}
	readers.Wait()
	return records, consumer.Close()
}

func (c client) Lookup(topic string, partition int32, timestamp int64) (int64, *roles.Record, error) {
	connection, err := sarama.NewClient(c.bootstrap, settings())
	if err != nil {
		return 0, nil, err
	}
	defer connection.Close()
	offset, err := connection.GetOffset(topic, partition, timestamp)
	if err != nil || offset < 0 {
		return offset, nil, err
	}
	records, err := c.read(topic, map[int32]int64{partition: offset}, 1, 10*time.Second)
	if err != nil || len(records) == 0 {
		return offset, nil, err
	}
	return offset, &records[0], nil
}

func (c client) Hold(topic string, count int, pause time.Duration) (int, error) {
	producer, err := c.producer("none", "idempotent")
	if err != nil {
		return 0, err
	}
	acked := 0
	for number := range count {
		message := &sarama.ProducerMessage{Topic: topic, Value: bytes(roles.Numbered(number))}
		if _, _, err := producer.SendMessage(message); err != nil {
			return acked, err
		}
		acked++
		time.Sleep(pause)
	}
	return acked, producer.Close()
}

func (c client) Admin(topic, group string) ([]roles.Step, func(), error) {
	connection, err := sarama.NewClient(c.bootstrap, settings())
	if err != nil {
		return nil, nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(connection)
	if err != nil {
		return nil, nil, err
	}
	retention, bytes := "3600000", "2000000"
	create := func() error {
		entries := map[string]*string{"retention.ms": &retention}
		detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: entries}
		return admin.CreateTopic(topic, detail, false)
	}
	partitions := func() (any, error) {
		found, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			return nil, err
		}
		return len(found[0].Partitions), nil
	}
	config := func(name string) (any, error) {
		resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name}}
		found, err := admin.DescribeConfig(resource)
		if err != nil || len(found) != 1 {
			return len(found), err
		}
		return found[0].Value, nil
	}
	listed := func() (bool, error) {
		topics, err := admin.ListTopics()
		_, there := topics[topic]
		return there, err
	}
	steps := []roles.Step{
		{Name: "create", Work: func() (any, error) { return roles.Check(true, create()) }},
		{Name: "create again", Work: func() (any, error) { return errors.Is(create(), sarama.ErrTopicAlreadyExists), nil }},
		{Name: "list", Work: func() (any, error) { return listed() }},
		{Name: "partitions", Work: partitions},
		{Name: "config", Work: func() (any, error) { return config("retention.ms") }},
		{Name: "alter", Work: func() (any, error) {
			set := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &bytes}
			change := map[string]sarama.IncrementalAlterConfigsEntry{"max.message.bytes": set}
			if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, change, false); err != nil {
				return nil, err
			}
			return config("max.message.bytes")
		}},
		{Name: "add partitions", Work: func() (any, error) {
			if err := admin.CreatePartitions(topic, 5, nil, false); err != nil {
				return nil, err
			}
			return partitions()
		}},
		{Name: "produce", Work: func() (any, error) {
			producer, err := c.producer("none", "all")
			if err != nil {
				return nil, err
			}
			for at := range 10 {
				message := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(roles.Numbered(at))}
				if _, _, err := producer.SendMessage(message); err != nil {
					return nil, err
				}
			}
			return true, producer.Close()
		}},
		{Name: "delete records", Work: func() (any, error) {
			if err := admin.DeleteRecords(topic, map[int32]int64{0: 4}); err != nil {
				return nil, err
			}
			return connection.GetOffset(topic, 0, sarama.OffsetOldest)
		}},
		{Name: "latest", Work: func() (any, error) { return connection.GetOffset(topic, 0, sarama.OffsetNewest) }},
		{Name: "directory", Work: func() (any, error) {
			found, err := admin.DescribeLogDirs([]int32{1})
			return roles.Check(len(found[1]) == 1, err)
		}},
		{Name: "cluster", Work: func() (any, error) {
			brokers, _, err := admin.DescribeCluster()
			return len(brokers), err
		}},
	}
	if group != "" {
		steps = append(steps, groupSteps(connection, admin, topic, group)...)
	}
	steps = append(steps, roles.Step{Name: "delete topic", Work: func() (any, error) {
		if err := admin.DeleteTopic(topic); err != nil {
			return nil, err
		}
		there, err := listed()
		return !there, err
	}})
	return steps, func() { _ = admin.Close() }, nil
}

func groupSteps(connection sarama.Client, admin sarama.ClusterAdmin, topic, group string) []roles.Step {
	committed := func() (*sarama.OffsetFetchResponseBlock, error) {
		found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
		if err != nil {
			return nil, err
		}
		block := found.GetBlock(topic, 0)
		if block == nil || block.Err != sarama.ErrNoError {
			return nil, fmt.Errorf("no committed offset: %v", block)
		}
		return block, nil
	}
	listed := func() (bool, error) {
		groups, err := admin.ListConsumerGroups()
		_, there := groups[group]
		return there, err
	}
	return []roles.Step{
		{Name: "commit", Work: func() (any, error) {
			manager, err := sarama.NewOffsetManagerFromClient(group, connection)
			if err != nil {
				return nil, err
			}
			partition, err := manager.ManagePartition(topic, 0)
			if err != nil {
				return nil, err
			}
			partition.MarkOffset(7, "note")
			manager.Commit()
			partition.AsyncClose()
			if err := manager.Close(); err != nil {
				return nil, err
			}
			block, err := committed()
			if err != nil {
				return nil, err
			}
			return block.Offset, nil
		}},
		{Name: "metadata", Work: func() (any, error) {
			block, err := committed()
			if err != nil {
				return nil, err
			}
			return block.Metadata, nil
		}},
		{Name: "list groups", Work: func() (any, error) { return listed() }},
		{Name: "group state", Work: func() (any, error) {
			found, err := admin.DescribeConsumerGroups([]string{group})
			if err != nil {
				return nil, err
			}
			return found[0].State, nil
		}},
		{Name: "delete group", Work: func() (any, error) {
			if err := admin.DeleteConsumerGroup(group); err != nil {
				return nil, err
			}
			there, err := listed()
			return !there, err
		}},
	}
}

// member is a member of a group, and the handler that the library calls.
type member struct {
	topic     string
	events    roles.Events
	group     sarama.ConsumerGroup
	stop      context.CancelFunc
	done      chan struct{}
	lock      sync.Mutex
	session   sarama.ConsumerGroupSession
	positions map[int32]int64
	errors    []error
}

func (c client) Join(session roles.Session, at int, events roles.Events) (roles.Member, error) {
	config := settings()
	config.Consumer.Group.Session.Timeout = time.Duration(session.SessionMs) * time.Millisecond
	config.Consumer.Group.Rebalance.Timeout = config.Consumer.Group.Session.Timeout
	config.Consumer.Group.Heartbeat.Interval = time.Duration(session.HeartbeatMs) * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Group.InstanceId = session.InstanceID(at)
	group, err := sarama.NewConsumerGroup(c.bootstrap, session.Group, config)
	if err != nil {
		return nil, err
	}
	m := &member{topic: session.Topic, events: events, group: group, done: make(chan struct{})}
	running, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		for err := range group.Errors() {
			m.lock.Lock()
			m.errors = append(m.errors, err)
			m.lock.Unlock()
		}
	}()
	go func() {
		defer close(m.done)
		for running.Err() == nil {
			if err := group.Consume(running, []string{session.Topic}, m); err != nil {
				// A broker that is away; the library has tried, so the program waits and tries again.
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return m, nil
}

// Setup begins a generation.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	m.session, m.positions, m.errors = session, map[int32]int64{}, nil
	m.lock.Unlock()
	m.events.Assigned(session.Claims()[m.topic])
	return nil
}

// Cleanup ends a generation.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.events.Assigned(nil)
	return nil
}

// ConsumeClaim reads one partition.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.lock.Lock()
		session.MarkMessage(message, "")
		m.positions[message.Partition] = message.Offset + 1
		m.lock.Unlock()
		m.events.Record(message.Partition, message.Offset, message.Value)
	}
	return nil
}

func (m *member) Commit() (map[int32]int64, error) {
	m.lock.Lock()
	session := m.session
	m.errors = nil
	offsets := map[int32]int64{}
	for partition, position := range m.positions {
		offsets[partition] = position
	}
	m.lock.Unlock()
	if session == nil {
		return nil, errors.New("no generation yet")
	}
	session.Commit()
	m.lock.Lock()
	defer m.lock.Unlock()
	return offsets, errors.Join(m.errors...)
}

func (m *member) Leave() error {
	m.stop()
	<-m.done
	return m.group.Close()
}

func main() {
	roles.Main("sarama", func(bootstrap string) roles.Client { return client{[]string{bootstrap}} })
}
