package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	// Processes that this program starts as the user.
	roles := map[string]func(args []string) error{"client": beClient, "await": await, "fill": fill, "erase": erase}
	run, args := measure, os.Args[1:]
	if len(args) > 0 && roles[args[0]] != nil {
		run, args = roles[args[0]], args[1:]
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds   int
	slice    time.Duration
	only     string
	against  string
	log      string
	pictures string
	traces   string
	tokenfs  string
	other    string
	quick    bool
}

func measure(args []string) error {
	var o options
	flag.IntVar(&o.rounds, "rounds", 12, "how many rounds")
	flag.DurationVar(&o.slice, "slice", 150*time.Millisecond, "how long a workload runs on a filesystem in a round")
	flag.StringVar(&o.only, "workloads", "", "which, separated by commas (default: all)")
	flag.StringVar(&o.against, "rivals", "", "which, separated by commas (default: all)")
	flag.StringVar(&o.log, "log", "", "append the results to this file")
	flag.StringVar(&o.pictures, "pictures", "", "draw one picture per workload into this directory")
	flag.StringVar(&o.traces, "traces", "", "write what the kernel asks per workload to this file, and measure nothing (needs root)")
	flag.StringVar(&o.tokenfs, "tokenfs", "", "measure this build of tokenfs (default: build it)")
	flag.StringVar(&o.other, "other", "", "another build of tokenfs to compare with")
	flag.BoolVar(&o.quick, "quick", false, "leave out starts, wipes and costs")
	flag.CommandLine.Parse(args)

	b, err := newBench(o.tokenfs, o.other)
	if err != nil {
		return err
	}
	list := rivals(o.other)
	defer b.end(list)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	go func() {
		<-interrupted
		b.end(list)
		os.Exit(1)
	}()

	r := &report{rivals: list, begun: time.Now(), rounds: o.rounds, slice: o.slice, load: loadAverage()}
	for _, rv := range list {
		if b.describe(rv); rv.absent == "" && !wanted(rv.name, o.against) {
			rv.absent = "not asked for"
		}
		if rv.absent == "" {
			if err := errors.Join(b.create(rv)); err == nil {
				_, err = b.start(rv)
				rv.failed(err)
			} else {
				rv.failed(err)
			}
		}
	}
	if o.traces != "" {
		return b.traceAll(list, o)
	}
	if !o.quick {
		r.empty(list)
	}
	r.race(b, list, o)
	err = r.write(o.log, r.print)
	if err == nil && o.pictures != "" {
		err = r.draw(o.pictures)
	}
	if err != nil {
		return err
	}
	if !o.quick {
		r.costs(b, list)
		r.lifetimes(b, list)
		if err := r.write(o.log, r.rest); err != nil {
			return err
		}
	}
	return nil
}

func wanted(name, list string) bool {
	if list == "" {
		return true
	}
	for _, n := range strings.Split(list, ",") {
		if n == name {
			return true
		}
	}
	return false
}

func (r *rival) failed(err error) {
	if err != nil && r.absent == "" {
		r.absent = oneLine(err)
	}
}

// oneLine is what went wrong, for a table's footnote.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// newBench mounts a tmpfs for everything, and builds what is to be built.
func newBench(tokenfs, other string) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("mounting a tmpfs needs root: try sudo make bench")
	}
	top, err := os.MkdirTemp("", "tokenfs-bench")
	if err != nil {
		return nil, err
	}
	b := &bench{top: top, tools: top + "/tools"}
	if err := unix.Mount("tmpfs", top, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=2g"); err != nil {
		return nil, fmt.Errorf("tmpfs on %s: %w", top, err)
	}
	if err := errors.Join(os.Chown(top, user, user), os.Mkdir(b.tools, 0o755), os.WriteFile(top+"/pass", []byte(passphrase+"\n"), 0o644)); err != nil {
		return nil, err
	}
	if tokenfs == "" {
		if err := build("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.tools+"/tokenfs", "tokenfs/cmd/tokenfs"); err != nil {
			return nil, err
		}
	} else if err := build("cp", "--", tokenfs, b.tools+"/tokenfs"); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.tools+"/tokenfs", 0o711); err != nil { // as packages install it
		return nil, err
	}
	if other != "" {
		if err := build("install", "-m", "0711", other, b.tools+"/other"); err != nil {
			return nil, err
		}
	}
	// What cannot be built is missing in the table, which says so.
	build("go", "build", "-o", b.tools+"/loopback", "github.com/hanwen/go-fuse/v2/example/loopback")
	build("sh", "-c", "cc -O2 -Wall -o "+b.tools+"/floor bench/floor/floor.c $(pkg-config --cflags --libs fuse3)")
	return b, err
}

func build(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		err = fmt.Errorf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
		fmt.Fprintln(os.Stderr, "bench:", err)
		return err
	}
	return nil
}

// end unmounts everything.
func (b *bench) end(list []*rival) {
	b.starting.Lock()
	for _, r := range list {
		if err := b.stop(r); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is still mounted: %v\n", r.dir, err)
		}
	}
	unix.Unmount(b.top, unix.MNT_DETACH)
	os.Remove(b.top)
}
