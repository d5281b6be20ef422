package roles

import (
	"bufio"
	"encoding/json"
	"time"
)

// Patience is the longest time for one step in a transaction.
const Patience = 20 * time.Second

// Transactor has the producers of one program, by number.
type Transactor interface {
	// Open makes a producer, which fences others of its id.
	Open(producer int, id string, timeout time.Duration) error
	Begin(producer int) error
	// Send waits until every record is stored or has failed; the end of the transaction tells of failures.
	Send(producer int, topic string, values []string) error
	// Take reads at read_committed as the only member of a group and returns how many came.
	Take(producer int, id, topic, group string, count int) (int, error)
	// Offsets puts the offsets of what was taken into the transaction.
	Offsets(producer int) error
	End(producer int, commit bool) error
	// Read returns the values of two partitions, from their beginning.
	Read(topic, isolation string, count int) ([]string, error)
}

type step struct {
	Do        string
	Producer  int
	ID        string
	TimeoutMs int `json:"timeout_ms"`
	Topic     string
	Values    []string
	Group     string
	Count     int
	Isolation string
}

// transact does what it is told until standard input ends.
func transact(transactor Transactor, lines *bufio.Reader) (map[string]any, error) {
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return map[string]any{"ended": true}, nil
		}
		var told step
		if err := json.Unmarshal(line, &told); err != nil {
			return nil, err
		}
		result, err := one(transactor, told)
		if err != nil {
			print(map[string]any{"error": err.Error()})
		} else {
			print(map[string]any{"ok": result})
		}
	}
}

func one(transactor Transactor, told step) (any, error) {
	switch told.Do {
	case "open":
		timeout := time.Duration(told.TimeoutMs) * time.Millisecond
		return nil, transactor.Open(told.Producer, told.ID, timeout)
	case "begin":
		return nil, transactor.Begin(told.Producer)
	case "send":
		return nil, transactor.Send(told.Producer, told.Topic, told.Values)
	case "take":
		return transactor.Take(told.Producer, told.ID, told.Topic, told.Group, told.Count)
	case "offsets":
		return nil, transactor.Offsets(told.Producer)
	case "read":
		return transactor.Read(told.Topic, told.Isolation, told.Count)
	}
	return nil, transactor.End(told.Producer, told.Do == "commit")
}
