// Package roles is what the programs in Go share: records as JSON, and the command line.
package roles

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Header is one header of a record, written as a pair.
type Header struct {
	Name  string
	Value []byte
}

// MarshalJSON writes the pair.
func (h Header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.Name, h.Value}) }

// UnmarshalJSON reads the pair.
func (h *Header) UnmarshalJSON(data []byte) error {
	var parts [2]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	if err := json.Unmarshal(parts[0], &h.Name); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &h.Value)
}

// Record is one record as every client sees it; a missing timestamp is left to the client.
type Record struct {
	Partition int32    `json:"p"`
	Key       []byte   `json:"k"`
	Value     []byte   `json:"v"`
	Headers   []Header `json:"h"`
	Timestamp *int64   `json:"t"`
	Offset    int64    `json:"o"`
}

// Step is one thing that an admin client did, with what it found.
type Step struct {
	Name string
	Work func() (any, error)
}

// Session is what the members of a group are to do.
type Session struct {
	Topic       string `json:"topic"`
	Group       string `json:"group"`
	Strategy    string `json:"strategy"`
	SessionMs   int    `json:"session_ms"`
	HeartbeatMs int    `json:"heartbeat_ms"`
	Static      bool   `json:"static"`
}

// InstanceID returns the name of a static member, "" for a dynamic one.
func (s Session) InstanceID(member int) string {
	if !s.Static {
		return ""
	}
	return fmt.Sprintf("member-%d", member)
}

// Member is one member of a group. Leave waits until it has left.
type Member interface {
	Commit() (map[int32]int64, error)
	Leave() error
}

// Events takes what happens to one member.
type Events struct{ member int }

// Client is one client library.
type Client interface {
	Write(topic string, records []Record, codec, acks string) ([]int64, error)
	Read(topic string, partitions int32, count int, timeout time.Duration) ([]Record, error)
	Lookup(topic string, partition int32, timestamp int64) (int64, *Record, error)
	Hold(topic string, count int, pause time.Duration) (int, error)
	Admin(topic, group string) ([]Step, func(), error)
	Join(session Session, member int, events Events) (Member, error)
	Transactor() Transactor
}

var output sync.Mutex

func print(value any) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		panic(err)
	}
}

// Assigned tells the whole assignment after a change.
func (e Events) Assigned(partitions []int32) {
	list := append([]int32{}, partitions...)
	sort.Slice(list, func(a, b int) bool { return list[a] < list[b] })
	print(map[string]any{"event": "assigned", "member": e.member, "partitions": list})
}

// Record tells a record that was read.
func (e Events) Record(partition int32, offset int64, value []byte) {
	print(map[string]any{"event": "record", "member": e.member, "p": partition, "o": offset, "n": Number(value)})
}

// Failed tells what went wrong.
func (e Events) Failed(what string, err error) {
	print(map[string]any{"event": "failed", "member": e.member, "what": what, "why": err.Error()})
}

// Numbered returns the value that Hold writes.
func Numbered(number int) []byte {
	return []byte(fmt.Sprintf("%d %s", number, strings.Repeat(".", 200)))
}

// Number reads it back, -1 from anything else.
func Number(value []byte) int {
	number, err := strconv.Atoi(strings.SplitN(string(value), " ", 2)[0])
	if err != nil {
		return -1
	}
	return number
}

// Check returns an error unless something holds.
func Check(holds bool, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return holds, nil
}

// Main runs one role, whose arguments come as a line of JSON on standard input.
func Main(name string, connect func(bootstrap string) Client) {
	bootstrap := flag.String("bootstrap", "", "HOST:PORT")
	role := flag.String("role", "", "what to do")
	flag.Parse()
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		var result map[string]any
		if result, err = run(connect(*bootstrap), *role, line, lines); err == nil {
			result["client"] = name
			print(result)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(client Client, role string, line []byte, lines *bufio.Reader) (map[string]any, error) {
	switch role {
	case "write":
		return write(client, line)
	case "read":
		return read(client, line)
	case "lookup":
		return lookup(client, line)
	case "hold":
		return hold(client, line)
	case "follow":
		return follow(client, line)
	case "admin":
		return admin(client, line)
	case "session":
		return session(client, line, lines)
	case "transact":
		return transact(client.Transactor(), lines)
	case "pipe":
		if client, able := client.(Piper); able {
			return nil, pipe(client, line)
		}
	}
	return nil, fmt.Errorf("there is no role %q", role)
}

func write(client Client, line []byte) (map[string]any, error) {
	var job struct {
		Topics map[string]struct {
			Codec   string
			Acks    string
			Records []Record
		}
	}
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	sent := map[string][]*int64{}
	for topic, plan := range job.Topics {
		offsets, err := client.Write(topic, plan.Records, plan.Codec, plan.Acks)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", topic, err)
		}
		list := make([]*int64, len(plan.Records))
		for at := range offsets {
			if plan.Acks != "0" {
				list[at] = &offsets[at]
			}
		}
		sent[topic] = list
	}
	return map[string]any{"sent": sent}, nil
}

func read(client Client, line []byte) (map[string]any, error) {
	job := struct {
		Topics map[string]struct {
			Partitions int32
			Count      int
		}
		Timeout float64
	}{Timeout: 20}
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	found := map[string][]Record{}
	for topic, wanted := range job.Topics {
		records, err := client.Read(topic, wanted.Partitions, wanted.Count, seconds(job.Timeout))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", topic, err)
		}
		sort.SliceStable(records, func(a, b int) bool {
			if records[a].Partition != records[b].Partition {
				return records[a].Partition < records[b].Partition
			}
			return records[a].Offset < records[b].Offset
		})
		for at := range records {
			if records[at].Headers == nil {
				records[at].Headers = []Header{}
			}
		}
		found[topic] = records
	}
	return map[string]any{"read": found}, nil
}

func lookup(client Client, line []byte) (map[string]any, error) {
	var job struct{ Questions [][]json.RawMessage }
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	answers := [][]any{}
	for _, question := range job.Questions {
		var topic string
		var partition int32
		var timestamp int64
		for at, into := range []any{&topic, &partition, &timestamp} {
			if err := json.Unmarshal(question[at], into); err != nil {
				return nil, err
			}
		}
		offset, record, err := client.Lookup(topic, partition, timestamp)
		if err != nil {
			return nil, err
		}
		if record != nil && record.Headers == nil {
			record.Headers = []Header{}
		}
		answers = append(answers, []any{offset, record})
	}
	return map[string]any{"answers": answers}, nil
}

type oneTopic struct {
	Topic   string
	Group   string
	Count   int
	Pause   float64
	Timeout float64
}

func hold(client Client, line []byte) (map[string]any, error) {
	var job oneTopic
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	acked, err := client.Hold(job.Topic, job.Count, seconds(job.Pause))
	return map[string]any{"acked": acked}, err
}

func follow(client Client, line []byte) (map[string]any, error) {
	var job oneTopic
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	records, err := client.Read(job.Topic, 1, job.Count, seconds(job.Timeout))
	numbers := []int{}
	for _, record := range records {
		numbers = append(numbers, Number(record.Value))
	}
	return map[string]any{"numbers": numbers}, err
}

func admin(client Client, line []byte) (map[string]any, error) {
	var job oneTopic
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	list, end, err := client.Admin(job.Topic, job.Group)
	if err != nil {
		return nil, err
	}
	defer end()
	steps := map[string]any{}
	for _, step := range list {
		if steps[step.Name], err = step.Work(); err != nil {
			steps[step.Name] = err.Error()
		}
	}
	return map[string]any{"steps": steps}, nil
}

// session drives members of a group, told by lines what to do.
func session(client Client, line []byte, lines *bufio.Reader) (map[string]any, error) {
	var job Session
	if err := json.Unmarshal(line, &job); err != nil {
		return nil, err
	}
	members := map[int]Member{}
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var command struct {
			Do     string
			Member int
		}
		if err := json.Unmarshal(line, &command); err != nil {
			return nil, err
		}
		at := command.Member
		switch command.Do {
		case "join":
			member, err := client.Join(job, at, Events{at})
			if err != nil {
				Events{at}.Failed("join", err)
				continue
			}
			members[at] = member
		case "commit":
			offsets, err := members[at].Commit()
			if err != nil {
				Events{at}.Failed("commit", err)
				continue
			}
			print(map[string]any{"event": "committed", "member": at, "offsets": offsets})
		case "leave":
			leave(members, at)
		}
	}
	for at := range members {
		leave(members, at)
	}
	return map[string]any{"ended": true}, nil
}

func leave(members map[int]Member, at int) {
	if err := members[at].Leave(); err != nil {
		Events{at}.Failed("leave", err)
	}
	delete(members, at)
	print(map[string]any{"event": "left", "member": at})
}

func seconds(count float64) time.Duration { return time.Duration(count * float64(time.Second)) }
