package roles

import (
	"encoding/json"
	"time"
)

// Pipe is what a worker of a pipeline is to do.
type Pipe struct {
	Source string
	Target string
	Group  string
	ID     string
}

// Piper is a client whose worker there is.
type Piper interface {
	// Pipe works until something fails that only a new client gets over.
	Pipe(job Pipe, tell func(event string, more map[string]any)) error
}

func pipe(client Piper, line []byte) error {
	var job Pipe
	if err := json.Unmarshal(line, &job); err != nil {
		return err
	}
	tell := func(event string, more map[string]any) {
		told := map[string]any{"at": float64(time.Now().UnixMilli()) / 1000, "event": event}
		for name, value := range more {
			told[name] = value
		}
		print(told)
	}
	for {
		if err := client.Pipe(job, tell); err != nil {
			tell("failed", map[string]any{"why": err.Error()})
		}
	}
}
