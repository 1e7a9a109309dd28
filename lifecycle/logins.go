package lifecycle

import (
	"context"
	"os"

	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/session"
)

// startSession finds out whose filesystem it will be, and waits for its user.
func (d *daemon) startSession(ctx context.Context) error {
	d.session = session.New(os.Geteuid(), session.State{AtLogout: d.opts.AtLogout, Stays: d.opts.Login}, d.logout, d.journal.logf)
	if d.opts.Login {
		return d.session.AwaitLogin(ctx, d.opts.RootLogins)
	}
	if d.run.Command {
		return nil // which lasts as long as it lasts
	}
	// What somebody mounts elsewhere may be for anything.
	return d.session.FollowLogins(atDefault(d.opts.Mountpoint), d.opts.Leader)
}

// logout is the end of the session. Where the user's services live on, they
// find an empty filesystem; a daemon that was started by hand would be what
// keeps them alive.
func (d *daemon) logout() {
	if !d.session.Stays() {
		d.journal.logf("the session is over: unmounting")
		d.ending.Do(func() { close(d.end) })
		return
	}
	if err := d.worker.wipe(); err != nil {
		d.journal.logf("the session is over, and wiping failed: %v", err)
		return
	}
	d.journal.logf("the session is over: wiped everything")
}

// atDefault says whether a mountpoint is the one that a login has.
func atDefault(path string) bool {
	def, err := mount.DefaultMountpoint()
	if err != nil {
		return false
	}
	def, err = mount.Canonical(def)
	return err == nil && def == path
}

// Login tells the filesystem at a canonical mountpoint whose login session it
// is for, besides those it knows.
func Login(mountpoint string, pid int) error {
	c, err := dial(mountpoint)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.ask(request{Verb: verbLogin, Leader: pid}, answerTimeout)
	return err
}
