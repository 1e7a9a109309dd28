package lifecycle

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// handle does what a client of the control socket asks for.
func (d *daemon) handle(r request) (answer reply) {
	answer, _ = d.reveal(r)
	answer.Dev = d.mount.Entry.Dev
	switch r.Verb {
	case verbStatus:
		s, content := d.status()
		answer.Status, answer.content = &s, content
	case verbWipe:
		if r.Paths == nil {
			if err := d.worker.wipe(); err != nil {
				return failure(fmt.Errorf("wipe: %w", err))
			}
			d.journal.logf("wiped everything")
		}
		for _, p := range r.Paths {
			d.wipePath(p, &answer)
		}
	case verbSkeleton:
		if err := d.worker.setSkeleton(r.Skeleton); err != nil {
			return failure(fmt.Errorf("set up directories: %w", err))
		}
	case verbHold:
		lease, err := d.session.Hold(time.Duration(r.Seconds)*time.Second, int(r.peer.Pid), r.Command)
		if err != nil {
			return failure(err)
		}
		d.journal.logf("held: lease %d", lease.ID)
		answer.Lease = &lease
	case verbRelease:
		if answer.Released = d.session.Release(r.Lease); answer.Released > 0 {
			d.journal.logf("released: %d leases", answer.Released)
		}
	case verbLogin:
		if err := d.session.Login(r.Leader); err != nil {
			return failure(err)
		}
	case verbUpgrade:
		goOn, err := d.upgrade()
		if err != nil {
			return failure(err)
		}
		go goOn()
	case verbUnmount:
		d.ending.Do(func() { close(d.end) })
		<-d.ended
		if answer.Busy = d.busy; d.err != nil {
			return failure(d.err)
		}
	}
	return answer
}

func (d *daemon) wipePath(p []byte, answer *reply) {
	n, err := d.worker.wipePath(p)
	answer.Files += n
	if err == nil {
		clear(p)
		return
	}
	kind := fault.Failed
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		kind = fault.NoPath
	}
	answer.Failed = append(answer.Failed, FailedPath{p, kind, err.Error()})
}
