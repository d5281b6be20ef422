package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"mainspring-compat/roles"
)

// transactor has plain clients, and sessions that commit offsets where something was taken.
type transactor struct {
	client
	producers map[int]*kgo.Client
	sessions  map[int]*kgo.GroupTransactSession
}

func (c client) Transactor() roles.Transactor {
	return &transactor{c, map[int]*kgo.Client{}, map[int]*kgo.GroupTransactSession{}}
}

func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), roles.Patience)
}

func (t *transactor) Open(producer int, id string, timeout time.Duration) error {
	made, err := t.connect(kgo.TransactionalID(id), kgo.TransactionTimeout(timeout))
	if err != nil {
		return err
	}
	t.producers[producer] = made
	limit, cancel := patience()
	defer cancel()
	_, _, err = made.ProducerID(limit)
	return err
}

func (t *transactor) Begin(producer int) error {
	if session := t.sessions[producer]; session != nil {
		return session.Begin()
	}
	return t.producers[producer].BeginTransaction()
}

func (t *transactor) Send(producer int, topic string, values []string) error {
	limit, cancel := patience()
	defer cancel()
	for at, value := range values {
		record := &kgo.Record{Topic: topic, Partition: int32(at % 2), Value: []byte(value)}
		t.producers[producer].Produce(limit, record, nil)
	}
	return t.producers[producer].Flush(limit)
}

func (t *transactor) Take(producer int, id, topic, group string, count int) (int, error) {
	t.leave(producer)
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(t.seeds()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.TransactionalID(id),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
	)
	if err != nil {
		return 0, err
	}
	t.sessions[producer], t.producers[producer] = session, session.Client()
	limit, cancel := patience()
	defer cancel()
	taken := 0
	for taken < count && limit.Err() == nil {
		taken += session.PollFetches(limit).NumRecords()
	}
	return taken, nil
}

// leave goes back from a session to a plain client of the same id.
func (t *transactor) leave(producer int) {
	if session := t.sessions[producer]; session != nil {
		session.Close()
		delete(t.sessions, producer)
	}
}

// Offsets leaves it to the end of the session, which puts in what was polled.
func (t *transactor) Offsets(int) error { return nil }

func (t *transactor) End(producer int, commit bool) error {
	limit, cancel := patience()
	defer cancel()
	session := t.sessions[producer]
	if session == nil {
		return t.producers[producer].EndTransaction(limit, kgo.TransactionEndTry(commit))
	}
	done, err := session.End(limit, kgo.TransactionEndTry(commit))
	if err == nil && done != commit {
		err = errors.New("the session has aborted")
	}
	return err
}

func (t *transactor) Read(topic, isolation string, count int) ([]string, error) {
	level := kgo.ReadUncommitted()
	if isolation == "read_committed" {
		level = kgo.ReadCommitted()
	}
	start := kgo.NewOffset().AtStart()
	from := map[string]map[int32]kgo.Offset{topic: {0: start, 1: start}}
	consumer, err := t.connect(kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(level))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	limit, cancel := patience()
	defer cancel()
	values := []string{}
	for len(values) < count && limit.Err() == nil {
		consumer.PollFetches(limit).EachRecord(func(read *kgo.Record) {
			values = append(values, string(read.Value))
		})
	}
	return values, nil
}
