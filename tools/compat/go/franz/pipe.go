package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"mainspring-compat/roles"
)

// Pipe takes records as a member of a group and writes them on, both in one transaction.
func (c client) Pipe(job roles.Pipe, tell func(event string, more map[string]any)) error {
	told := func(event string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, places map[string][]int32) {
			tell(event, map[string]any{"partitions": places[job.Source]})
		}
	}
	tell("init", nil)
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(c.seeds()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.TransactionalID(job.ID),
		kgo.TransactionTimeout(10*time.Second),
		kgo.ConsumerGroup(job.Group),
		kgo.ConsumeTopics(job.Source),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		// The one rule that all workers have.
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(time.Second),
		kgo.OnPartitionsAssigned(told("assigned")),
		kgo.OnPartitionsRevoked(told("revoked")),
		kgo.OnPartitionsLost(told("revoked")),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for {
		fetches := session.PollRecords(context.Background(), 50)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		positions := map[int32]int64{}
		delivered := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(read *kgo.Record) {
			positions[read.Partition] = read.Offset + 1
			record := &kgo.Record{Topic: job.Target, Partition: read.Partition, Key: read.Key, Value: read.Value}
			session.Produce(context.Background(), record, delivered.Promise())
		})
		tell("begin", map[string]any{"positions": positions})
		limit, cancel := context.WithTimeout(context.Background(), roles.Patience)
		committed, err := session.End(limit, delivered.Err() == nil)
		cancel()
		if err != nil {
			return err
		}
		if committed {
			tell("committed", map[string]any{"count": fetches.NumRecords()})
		} else {
			tell("aborted", nil)
		}
	}
}
