package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// A client is a process that runs one workload on one filesystem: it gets
// ready, says so, waits for the word, and reports how long each operation took.
type client struct {
	dir   string // its own, made by prepare
	n     int    // which of those at work at once
	buf   []byte
	times [maxSeries][]uint32 // nanoseconds

	state any // the workload's own
}

const (
	maxSeries = 2
	mostTimes = 1 << 20
)

// lap records how long an operation of a series took that began at start.
func (c *client) lap(series int, start int64) {
	if t := c.times[series]; len(t) < cap(t) {
		c.times[series] = append(t, uint32(min(clock()-start, 1<<32-1)))
	}
}

// beClient is the main program of a client: WORKLOAD DIR N DURATION LIMIT.
func beClient(args []string) error {
	if len(args) != 5 {
		return errors.New("a client takes five arguments; only this program starts one")
	}
	w := findWorkload(args[0])
	n, err := strconv.Atoi(args[2])
	limit, err2 := strconv.Atoi(args[4])
	d, err3 := time.ParseDuration(args[3])
	if err := errors.Join(err, err2, err3); w == nil || err != nil {
		return fmt.Errorf("no such workload: %q, %v", args[0], err)
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	c := &client{dir: args[1], n: n, buf: make([]byte, 2<<20)}
	for i := range w.series {
		c.times[i] = make([]uint32, 0, mostTimes)
		clear(c.times[i][:mostTimes]) // faults its pages in
	}
	for i := range c.buf {
		c.buf[i] = byte(i)
	}
	w.prepare(c)
	w.run(c) // caches are as warm as they get
	for i := range c.times {
		c.times[i] = c.times[i][:0]
	}
	fmt.Println("ready")
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	end := clock() + int64(d)
	between := marker()
	for i := 0; i < limit && clock() < end; i++ {
		between()
		w.run(c)
	}
	between()
	out := bufio.NewWriter(os.Stdout)
	for i := range w.series {
		binary.Write(out, binary.LittleEndian, uint32(len(c.times[i])))
		binary.Write(out, binary.LittleEndian, c.times[i])
	}
	return out.Flush()
}

// runClients runs a workload on dir and adds what its operations took to series.
func (b *bench) runClients(w *workload, dir string, d time.Duration, limit int) (series [maxSeries][]uint32, err error) {
	type started struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Reader
		say *[]byte
	}
	var all []started
	end := func(s started) error {
		s.in.Close()
		if err := s.cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %v: %s", w.name, err, *s.say)
		}
		return nil
	}
	for n := range w.clients {
		cmd := b.asUser(exec.Command("/proc/self/exe", "client", w.name, dir, strconv.Itoa(n), d.String(), strconv.Itoa(limit)))
		// Preemption is a signal, which would interrupt system calls.
		cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
		if b.marks != nil {
			cmd.ExtraFiles = []*os.File{b.marks} // descriptor 3
			cmd.Env = append(cmd.Env, markVar+"=3")
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			return series, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return series, err
		}
		say := new(limited)
		cmd.Stderr = say
		if err := cmd.Start(); err != nil {
			return series, err
		}
		all = append(all, started{cmd, in, bufio.NewReaderSize(out, 1<<16), &say.b})
	}
	for _, s := range all {
		if _, e := s.out.ReadString('\n'); e != nil {
			err = errors.Join(err, e)
		}
	}
	for _, s := range all {
		if err == nil {
			s.in.Write([]byte{1})
		}
	}
	for _, s := range all {
		for i := range w.series {
			var n uint32
			if err == nil && binary.Read(s.out, binary.LittleEndian, &n) == nil {
				times := make([]uint32, n)
				err = binary.Read(s.out, binary.LittleEndian, times)
				series[i] = append(series[i], times...)
			}
		}
		err = errors.Join(err, end(s))
	}
	return series, err
}

// limited keeps the beginning of what a process says.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), 500-min(500, len(l.b)))]...)
	return len(p), nil
}
