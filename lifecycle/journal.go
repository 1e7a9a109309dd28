package lifecycle

import (
	"fmt"
	"sync"
	"time"
)

// A Message is something the daemon had to say.
type Message struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

const (
	keptMessages   = 16
	queuedMessages = 64
	flushTimeout   = time.Second
)

// A journal keeps the last messages for status and passes all on to a sink. It
// never waits for the sink: the filesystem logs from places where a full
// syslog socket would stop every client.
type journal struct {
	mu     sync.Mutex
	recent []Message
	lost   int
	queue  chan func()
	sink   func(format string, args ...any)
}

func newJournal(sink func(format string, args ...any)) *journal {
	j := &journal{queue: make(chan func(), queuedMessages), sink: sink}
	if sink == nil {
		j.sink = func(string, ...any) {}
	}
	go func() {
		for step := range j.queue {
			step()
		}
	}()
	return j
}

func (j *journal) logf(format string, args ...any) {
	m := Message{time.Now(), fmt.Sprintf(format, args...)}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.recent) == keptMessages {
		j.recent = append(j.recent[:0], j.recent[1:]...)
	}
	j.recent = append(j.recent, m)
	lost := j.lost
	select {
	case j.queue <- func() {
		if lost > 0 {
			j.sink("%d messages before this one were lost", lost)
		}
		j.sink("%s", m.Text)
	}:
		j.lost = 0
	default:
		j.lost++
	}
}

// flush waits until what was logged has been passed on, or for a moment.
func (j *journal) flush() {
	flushed := make(chan struct{})
	timeout := time.After(flushTimeout)
	select {
	case j.queue <- func() { close(flushed) }:
	case <-timeout:
		return
	}
	select {
	case <-flushed:
	case <-timeout:
	}
}

func (j *journal) messages() []Message {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Message{}, j.recent...)
}
