package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel asks of each filesystem for one operation, from its own
// tracepoint: the fewer, the better, and each has a reason.

const tracing = "/sys/kernel/tracing"

var sent = regexp.MustCompile(`fuse_request_send: connection (\d+) req \d+ opcode \d+ \(FUSE_(\w+)\)`)

func (b *bench) traceAll(list []*rival, o options) error {
	if _, err := os.Stat(tracing + "/events/fuse"); err != nil {
		if err := unix.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil {
			return fmt.Errorf("tracefs: %w: it needs root, and Linux 6.9 or newer for FUSE's tracepoints", err)
		}
		defer unix.Unmount(tracing, unix.MNT_DETACH)
	}
	var err error
	if b.marks, err = os.OpenFile(tracing+"/trace_marker", os.O_WRONLY, 0); err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "What Linux %s asks for one operation with warm caches, in order; the tool is bench -traces.\n", kernel())
	for _, w := range workloads {
		if !wanted(w.name, o.only) || w.clients > 1 {
			continue
		}
		fmt.Fprintf(&out, "\n%s\n", w.name)
		for _, rv := range list {
			if rv.absent != "" || rv.server == nil {
				continue
			}
			asked, err := b.trace(w, rv)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", w.name, rv.name, err)
			}
			fmt.Fprintf(&out, "  %-10s %3d  %s\n", rv.name, len(asked), summary(asked))
		}
	}
	return os.WriteFile(o.traces, []byte(out.String()), 0o644)
}

// trace runs an operation a few times and returns what was asked for the last.
func (b *bench) trace(w *workload, rv *rival) (list []string, err error) {
	connection, err := connectionOf(rv.dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(tracer("events/fuse/fuse_request_send/enable", "1"), tracer("trace", "")); err != nil {
		return nil, err
	}
	defer tracer("events/fuse/fuse_request_send/enable", "0")
	if _, err := b.runClients(w, rv.dir, time.Hour, 3); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(tracing + "/trace")
	if err != nil {
		return nil, err
	}
	parts := strings.Split(string(raw), mark)
	if len(parts) < 3 || strings.Contains(string(raw), "LOST") {
		return nil, errors.New("the trace is not whole")
	}
	for _, m := range sent.FindAllStringSubmatch(parts[len(parts)-2], -1) {
		if m[1] == connection {
			list = append(list, m[2])
		}
	}
	return list, nil
}

// connectionOf finds the number of a FUSE connection: that of its mount's
// device. Root may not look at the mount itself.
func connectionOf(dir string) (string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == dir {
			_, minor, _ := strings.Cut(f[2], ":")
			return minor, nil
		}
	}
	return "", errors.Join(err, errors.New("nothing is mounted on "+dir))
}

// A client that finds a descriptor in markVar separates its operations by marks.
const (
	markVar = "_BENCH_MARK"
	mark    = "bench-operation"
)

// marker returns what writes a mark, or nothing.
func marker() func() {
	fd, err := strconv.Atoi(os.Getenv(markVar))
	if err != nil {
		return func() {}
	}
	return func() {
		if _, err := unix.Write(fd, []byte(mark+"\n")); err != nil {
			die("trace_marker", unix.EIO)
		}
	}
}

func tracer(name, value string) error {
	return os.WriteFile(tracing+"/"+name, []byte(value), 0o644)
}

// summary lists what was asked in order, with a count for equal neighbours; of
// a long list, only how often what was asked.
func summary(list []string) string {
	const inOrder = 40
	var out []string
	if len(list) > inOrder {
		list = slices.Clone(list)
		slices.Sort(list)
	}
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && list[j] == list[i] {
			j++
		}
		if j-i > 1 {
			out = append(out, fmt.Sprintf("%s×%d", list[i], j-i))
		} else {
			out = append(out, list[i])
		}
		i = j
	}
	if len(list) > inOrder {
		return "altogether " + strings.Join(out, " ")
	}
	return strings.Join(out, " ")
}
