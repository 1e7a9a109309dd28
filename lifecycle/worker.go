package lifecycle

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/orphan"
	"tokenfs/lifecycle/process"
)

// The worker is the process that serves what comes from clients. All its state
// is the keeper's: it can be killed at any moment, and another one goes on.

// workerVar holds the role of a process that a keeper has started. Only a keeper
// sets it.
const workerVar = "_TOKENFS_WORKER"

// workerState is what a worker is told before anything else; with it come
// workerFDs descriptors: /dev/fuse, key region, arena, request slots.
type workerState struct {
	Size       int64  `json:"size"`
	Most       int64  `json:"most,omitempty"` // see room
	Inodes     int    `json:"inodes"`
	UID        int    `json:"uid"`
	GID        int    `json:"gid"`
	NoAtime    bool   `json:"noatime"`
	WholeSaves bool   `json:"whole_saves"`
	Secret     bool   `json:"secret"`
	Why        string `json:"why"` // no secret

	Skeleton []fs.Folder `json:"skeleton,omitempty"`
}

const workerFDs = 4

// memory is where it is among the descriptors.
func (st workerState) memory(fds []int) crypt.FDs {
	return crypt.FDs{Keys: fds[1], Arena: fds[2], Slots: fds[3], Secret: st.Secret, Why: st.Why}
}

// toWorker and toKeeper are lines on the connection after that.
type toWorker struct {
	ID   uint64 `json:"id"`
	Verb string `json:"verb"`
	Path []byte `json:"path,omitempty"`

	Skeleton []fs.Folder `json:"skeleton,omitempty"`
}

type toKeeper struct {
	Ready  bool          `json:"ready,omitempty"`
	Log    string        `json:"log,omitempty"`
	Notice *fs.Notice    `json:"notice,omitempty"` // for the kernel; see fs.Notifier
	ID     uint64        `json:"id,omitempty"`     // of the request this answers
	Error  string        `json:"error,omitempty"`
	Errno  unix.Errno    `json:"errno,omitempty"` // what Error wraps
	Files  int           `json:"files,omitempty"`
	Status *workerStatus `json:"status,omitempty"`
	Locked *lockedDown   `json:"locked,omitempty"` // with it comes the filter's listener, if there is one
	//lint:ignore U1000 the build with tag tokenfs_reveal has fields in it
	revelation
}

type workerStatus struct {
	Content json.RawMessage    `json:"content"` // an fs.Status; the keeper passes it on, see reply.encode
	Memory  crypt.MemoryStatus `json:"memory"`
	PSS     int64              `json:"pss"`
}

// verbStop is between keeper and worker only.
const verbStop = "stop"

// mayStartWorkers is set by BeWorker. A program without it would start itself
// again as a worker, do what it does, and so on without end.
var mayStartWorkers bool

// BeWorker turns this process into a worker if a keeper started it as one, and
// does not return then. It comes first in main: until it has run, the process
// can be read by its user.
func BeWorker() {
	mayStartWorkers = true
	role := os.Getenv(workerVar)
	if role == "" {
		return
	}
	err := process.Harden()
	if role == workerRole {
		process.OfferToOOMKiller() // at once: until then the keeper is the heavier one
	}
	if role != rehearsalRole { // which has nothing
		outlives = surviveKeeper()
	}
	collectOnDemand()
	if err == nil {
		err = process.CheckUnwatched()
	}
	if err == nil {
		process.NameProcess(role)
		err = beRole(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func beRole(role string) error {
	roles := map[string]func(*net.UnixConn) error{workerRole: work, holderRole: beHolder, rehearsalRole: beRehearsal}
	play, known := roles[role]
	if !known {
		return fmt.Errorf("internal error: %s=%q", workerVar, role)
	}
	conn, err := handover.Claim(handover.FD)
	if err != nil {
		return err
	}
	return play(conn)
}

// aloneLimit is how long a worker or a holder may live on when its keeper is
// gone, to destroy what it has. outlives says why it does not.
const aloneLimit = 2 * time.Second

var outlives error

func surviveKeeper() error {
	if crypt.Unprotected {
		return errors.ErrUnsupported
	}
	timer, err := process.NewKillTimer()
	if err != nil {
		return err
	}
	return orphan.Survive(timer.Id, aloneLimit)
}

// Roles that a keeper starts this program in.
const (
	workerRole    = "tokenfs-worker"
	holderRole    = "tokenfs-holder"
	rehearsalRole = "tokenfs-rehears" // 15 bytes are all that the kernel keeps
)

func work(conn *net.UnixConn) error {
	if err := obeyTest(); err != nil {
		return err
	}
	var st workerState
	fds, err := handover.ReceiveState(conn, &st, workerFDs)
	if err != nil {
		return fmt.Errorf("taking over the filesystem: %w", err)
	}
	conn.SetDeadline(time.Time{}) // from here on the keeper says something when it likes
	w := &workerProcess{conn: conn}
	w.more = sync.NewCond(&w.mu)
	if err := w.lockDown(); err != nil {
		return err
	}
	go w.deliver()
	crypt.Quiet()
	mem, err := crypt.AttachMemory(fs.MemoryConfig(st.Size, st.Inodes, crypt.SecretmemAuto),
		st.memory(fds))
	if err != nil {
		return err
	}
	w.memory = mem
	w.server, err = fs.New(fds[0], mem, fs.Config{Quota: st.Size, Most: st.Most, Inodes: st.Inodes,
		UID: uint32(st.UID), GID: uint32(st.GID), NoAtime: st.NoAtime, WholeSaves: st.WholeSaves, Skeleton: st.Skeleton, Logf: w.logf,
		Notify: func(n fs.Notice) { w.send(toKeeper{Notice: &n}) }})
	if err != nil {
		return err
	}
	go w.obey()
	runtime.GOMAXPROCS(fs.Processors)
	return w.server.Serve(func() { w.send(toKeeper{Ready: true}) })
}

type workerProcess struct {
	conn   *net.UnixConn
	memory *crypt.Memory
	server *fs.Server
	pss    *os.File

	mu    sync.Mutex
	more  *sync.Cond
	queue []toKeeper
}

func (w *workerProcess) logf(format string, args ...any) {
	w.send(toKeeper{Log: fmt.Sprintf(format, args...)})
}

// send queues a message. It never waits for the keeper, which somebody may have
// stopped: requests are answered all the same.
func (w *workerProcess) send(m toKeeper) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, m)
	w.more.Signal()
}

// deliver writes what is queued, in order.
func (w *workerProcess) deliver() {
	for {
		w.mu.Lock()
		for len(w.queue) == 0 {
			w.more.Wait()
		}
		queue := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, m := range queue {
			if line, err := encode(m); err == nil {
				w.conn.Write(line)
			}
		}
	}
}

// obey ends the process when the keeper is gone, and the keys with it.
func (w *workerProcess) obey() {
	in := bufio.NewScanner(w.conn)
	in.Buffer(nil, 2*requestLimit)
	for in.Scan() {
		var m toWorker
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			break
		}
		answer := w.do(m)
		answer.ID = m.ID
		w.send(answer)
	}
	if in.Err() == nil {
		w.alone()
	}
	os.Exit(1)
}

// alone is for the end of the keeper's connection, which lasts as long as the
// keeper. If that was killed nobody else can zero what it leaves, and the kernel
// does not. In an upgrade somebody can.
func (w *workerProcess) alone() {
	if w.memory.InTrust() {
		return
	}
	w.server.Abandon(aloneLimit / 2)
	w.memory.EraseForGood()
}

func (w *workerProcess) do(m toWorker) (answer toKeeper) {
	var err error
	switch m.Verb {
	case verbStatus:
		st := &workerStatus{Memory: w.memory.Status(), PSS: w.measure()}
		if st.Content, err = json.Marshal(w.server.Status()); err == nil {
			answer.Status = st
		}
	case verbWipe:
		if m.Path == nil {
			err = w.server.Wipe()
		} else {
			answer.Files, err = w.server.WipePath(string(m.Path))
		}
		collectAtRest()
	case verbSkeleton:
		err = w.server.SetSkeleton(m.Skeleton)
	case verbStop:
		w.server.Stop()
	default:
		answer, _ = w.reveal(m)
	}
	if err != nil {
		answer.Error = err.Error()
		errors.As(err, &answer.Errno)
	}
	return answer
}
