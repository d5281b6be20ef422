package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"

	"mainspring-compat/roles"
)

type transactor struct {
	client
	producers map[int]sarama.SyncProducer
	group     string
	topic     string
	positions map[int32]int64
}

func (c client) Transactor() roles.Transactor {
	return &transactor{client: c, producers: map[int]sarama.SyncProducer{}}
}

func (t *transactor) Open(producer int, id string, timeout time.Duration) error {
	config := settings()
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Transaction.ID = id
	config.Producer.Transaction.Timeout = timeout
	// What cannot be sent in a few attempts is for the end of the transaction to tell.
	config.Producer.Retry.Max = 5
	made, err := sarama.NewSyncProducer(t.bootstrap, config)
	t.producers[producer] = made
	return err
}

func (t *transactor) Begin(producer int) error { return t.producers[producer].BeginTxn() }

func (t *transactor) Send(producer int, topic string, values []string) error {
	var messages []*sarama.ProducerMessage
	for at, value := range values {
		messages = append(messages, &sarama.ProducerMessage{
			Topic:     topic,
			Partition: int32(at % 2),
			Value:     sarama.StringEncoder(value),
		})
	}
	_ = t.producers[producer].SendMessages(messages)
	return nil
}

// taker passes on what the member of a group is given.
type taker struct {
	messages chan<- *sarama.ConsumerMessage
}

func (taker) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (taker) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (t taker) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			t.messages <- message
		case <-session.Context().Done():
			return nil
		}
	}
}

func (t *transactor) Take(_ int, _, topic, group string, count int) (int, error) {
	config := settings()
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Return.Errors = false
	member, err := sarama.NewConsumerGroup(t.bootstrap, group, config)
	if err != nil {
		return 0, err
	}
	limit, cancel := context.WithTimeout(context.Background(), roles.Patience)
	messages := make(chan *sarama.ConsumerMessage, 1000)
	ended := make(chan error, 1)
	go func() { ended <- member.Consume(limit, []string{topic}, taker{messages}) }()
	t.topic, t.group, t.positions = topic, group, map[int32]int64{}
	taken := 0
	for taken < count && limit.Err() == nil {
		select {
		case message := <-messages:
			t.positions[message.Partition] = message.Offset + 1
			taken++
		case <-limit.Done():
		}
	}
	cancel()
	if err := <-ended; err != nil {
		return taken, err
	}
	return taken, member.Close()
}

func (t *transactor) Offsets(producer int) error {
	offsets := map[string][]*sarama.PartitionOffsetMetadata{}
	for partition, position := range t.positions {
		one := &sarama.PartitionOffsetMetadata{Partition: partition, Offset: position, LeaderEpoch: -1}
		offsets[t.topic] = append(offsets[t.topic], one)
	}
	return t.producers[producer].AddOffsetsToTxn(offsets, t.group)
}

func (t *transactor) End(producer int, commit bool) error {
	if commit {
		return t.producers[producer].CommitTxn()
	}
	return t.producers[producer].AbortTxn()
}

func (t *transactor) Read(topic, isolation string, count int) ([]string, error) {
	config := settings()
	if isolation == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	from := map[int32]int64{0: sarama.OffsetOldest, 1: sarama.OffsetOldest}
	records, err := t.readWith(config, topic, from, count, roles.Patience)
	values := []string{}
	for _, record := range records {
		values = append(values, string(record.Value))
	}
	return values, err
}
