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
		if err == nil {
			err = c.hear(line, in)
		} else if !errors.Is(err, bufio.ErrTooLong) {
			return
		}
		if err != nil {
			c.logf("the worker was ended for what it said: %v", err)
			c.kill()
			return
		}
	}
}

// hear does what one message asks for. An error is one that no worker of ours sends;
// it has nothing of the message in it.
func (c *child) hear(line []byte, in *handover.RightsReader) error {
	var m toKeeper
	if json.Unmarshal(line, &m) != nil {
		return errors.New("no message")
	}
	switch {
	case m.kinds() != 1:
		return errors.New("several messages in one, or none")
	case m.Locked != nil:
		if c.locked != nil {
			return errors.New("locked down, twice")
		}
		c.guard(m.Locked, in.Take())
	case m.Ready:
		if c.locked == nil || c.serves {
			return errors.New("ready, before it was locked down or twice")
		}
		c.serves = true
		close(c.ready)
	case m.Log != "":
		if c.logged++; c.logged < maxLogged {
			c.logf("%s", m.Log)
		} else if c.logged == maxLogged {
			c.logf("the worker has logged %d lines: what more it has to say is left out", maxLogged)
		}
	case m.Notice != nil:
		if !m.Notice.Valid() || !c.notes.Add(*m.Notice) {
			return errors.New("a notice that no server has, or too many")
		}
	default:
		select {
		case c.answers <- m:
		default: // nobody asked
		}
	}
	return nil
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
