package lifecycle

import (
	"bufio"
	"encoding/json"
	"errors"

	"tokenfs/lifecycle/handover"
)

// A worker reads what clients send, and somebody may have taken it over that way. So
// the keeper believes nothing that it says: each message is one of a few, at its time,
// of bounded size and number. A worker that says anything else is killed for it, and
// its successor goes on; what it says in vain costs the keeper nothing that stays.

// maxLogged is how many lines of a worker's are logged. Ours have a few to say.
const maxLogged = 100

// listen hears the worker until it ends or talks nonsense.
func (c *child) listen() {
	in := &handover.RightsReader{Conn: c.conn}
	defer in.Close()
	lines := newLineReader(in)
	defer lines.end()
	for {
		line, err := lines.next()
		var nonsense string
		switch {
		case err == nil:
			nonsense = c.hear(line, in)
		case errors.Is(err, bufio.ErrTooLong):
			nonsense = "a line without end"
		default:
			return
		}
		if nonsense != "" {
			c.logf("the worker was ended for what it said to its keeper: %s: please report it", nonsense)
			c.kill()
			return
		}
	}
}

// hear does what one message asks for, and says what is wrong with one that no worker
// of ours sends, in words that have nothing of the message in them.
func (c *child) hear(line []byte, in *handover.RightsReader) (nonsense string) {
	var m toKeeper
	if json.Unmarshal(line, &m) != nil {
		return "no message"
	}
	switch {
	case m.kinds() != 1:
		return "several messages in one, or none"
	case m.Locked != nil:
		if c.locked != nil {
			return "locked down, twice"
		}
		c.guard(m.Locked, in.Take())
	case m.Ready:
		if c.locked == nil || c.serves {
			return "ready, before it was locked down or twice"
		}
		c.serves = true
		close(c.ready)
	case m.Log != "":
		if c.logged++; c.logged < maxLogged {
			c.logf("%s", m.Log)
		} else if c.logged == maxLogged {
			c.logf("the worker has logged %d lines: more are left out", maxLogged)
		}
	case m.Notice != nil:
		if !m.Notice.Valid() || !c.notes.Add(*m.Notice) {
			return "a notice that no server has, or too many"
		}
	default:
		select {
		case c.answers <- m:
		default: // nobody asked
		}
	}
	return ""
}

// kinds counts what is said in one message.
func (m toKeeper) kinds() (n int) {
	for _, said := range []bool{m.Locked != nil, m.Ready, m.Log != "", m.Notice != nil, m.ID != 0} {
		if said {
			n++
		}
	}
	return n
}
