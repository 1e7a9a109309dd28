package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clients are the processes, by role; each returns at the first wrong result.
var clients = map[string]func(*client) error{
	"names":    (*client).names,
	"register": (*client).register,
	"append":   (*client).appends,
	"exclude":  (*client).exclude,
	"flock":    (*client).flock,
	"mapping":  (*client).mapping,
	"posix":    (*client).posix,
	"handles":  (*client).handles,
	"list":     (*client).list,
	"victim":   (*client).victim,
	"writer":   (*client).writer,
	"saves":    (*client).saves,
	"kept":     (*client).kept,
	"keeper":   (*client).keeps,
	"ping":     (*client).ping,
	"sqlite":   (*client).sqlite,
	"git":      (*client).git,
	"msal":     (*client).msal,
}

type client struct {
	number int
	seed   int64
	dir    string // on the filesystem
	stop   string // a file that says when to
	rng    *rand.Rand
	file   *os.File // of the log
	log    *bufio.Writer
	times  Times
	ids    int64
}

func newClient(number int, seed uint64, dir, stop, log string) (*client, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &client{number: number, seed: int64(seed), dir: dir, stop: stop, file: f, log: bufio.NewWriter(f),
		rng: rand.New(rand.NewPCG(seed, uint64(number)))}, nil
}

func (c *client) finish() error {
	line, err := json.Marshal(&c.times)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.log, "times %s\n", line)
	return errors.Join(c.log.Flush(), c.file.Close())
}

func (c *client) running() bool {
	_, err := os.Lstat(c.stop)
	return err != nil
}

// pace leaves some of the machine to the others.
func (c *client) pace() { time.Sleep(time.Duration(c.rng.IntN(3000)) * time.Microsecond) }

func (c *client) path(name string) string { return filepath.Join(c.dir, name) }

// fresh is a number that no client uses twice.
func (c *client) fresh() int64 {
	c.ids++
	return int64(c.number+1)<<32 | c.ids
}

func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// timed counts how long f takes.
func (c *client) timed(f func() error) error {
	start := clock()
	err := f()
	c.times.add(time.Duration(clock() - start))
	return err
}

// do does an operation on a shared object and logs it.
func (c *client) do(object, kind string, a, b int64, f func() (int64, error)) error {
	start := clock()
	result, err := f()
	end := clock()
	if err != nil {
		return fmt.Errorf("%s: %s(%d, %d): %w", object, kind, a, b, err)
	}
	c.times.add(time.Duration(end - start))
	return c.record(Op{object, kind, a, b, result, c.number, start, end})
}

func (c *client) record(op Op) error {
	_, err := fmt.Fprintln(c.log, "op", op.Object, op.Kind, op.A, op.B, op.Result, op.Client, op.Start, op.End)
	return err
}

// pattern is what a block of contents looks like; it tells its number.
func pattern(id int64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(id), 2))
	for i := 0; i < n; i += 8 {
		v := rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

// Times is a histogram of durations in steps of a tenth.
type Times struct {
	Count   [220]int64
	Longest time.Duration
}

func (t *Times) add(d time.Duration) {
	i := 0
	if d > time.Microsecond {
		i = min(len(t.Count)-1, int(math.Log(float64(d)/float64(time.Microsecond))/math.Log(1.1)))
	}
	t.Count[i]++
	t.Longest = max(t.Longest, d)
}

func (t *Times) merge(u *Times) {
	for i, n := range u.Count {
		t.Count[i] += n
	}
	t.Longest = max(t.Longest, u.Longest)
}

func (t *Times) total() (n int64) {
	for _, m := range t.Count {
		n += m
	}
	return n
}

func (t *Times) quantile(q float64) time.Duration {
	left := int64(q * float64(t.total()))
	for i, n := range t.Count {
		if left -= n; left < 0 {
			return time.Duration(math.Pow(1.1, float64(i+1)) * float64(time.Microsecond)).Round(10 * time.Microsecond)
		}
	}
	return t.Longest
}

// readLog reads what a client logged.
func readLog(path string) (ops []Op, times Times, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, times, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return ops, times, nil
		} else if err != nil {
			return nil, times, err
		}
		if text, ok := strings.CutPrefix(line, "times "); ok {
			if err := json.Unmarshal([]byte(text), &times); err != nil {
				return nil, times, fmt.Errorf("%s: %w", path, err)
			}
			continue
		}
		var op Op
		if _, err := fmt.Sscanf(line, "op %s %s %d %d %d %d %d %d\n", &op.Object, &op.Kind, &op.A, &op.B, &op.Result, &op.Client, &op.Start, &op.End); err != nil {
			return nil, times, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		ops = append(ops, op)
	}
}
