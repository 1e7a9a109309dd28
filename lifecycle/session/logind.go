package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"tokenfs/lifecycle/pamservice"
)

// logind is a connection to systemd-logind, or elogind, over the system bus. See
// org.freedesktop.login1(5).
type logind struct {
	bus     *dbus.Conn
	files   *os.File      // inotify
	changed chan struct{} // something has, perhaps
	lost    chan struct{} // closed when the bus is gone
	limit   time.Duration // for one call
}

const (
	logindName    = "org.freedesktop.login1"
	logindManager = logindName + ".Manager"
	logindSession = logindName + ".Session"
	logindUser    = logindName + ".User"
	// logindLimit is for one call while a login waits for it.
	logindLimit = 500 * time.Millisecond
	// logindRetry is the longest time between two attempts to find it again.
	logindRetry = 10 * time.Second
	// lingerLimit is for a call that may start polkit.
	lingerLimit = 4 * time.Second
)

// openLogind connects within a limit, which is that of each call then.
func openLogind(limit time.Duration) (*logind, error) {
	bus, err := connectBus(limit)
	if err != nil {
		return nil, err
	}
	l := &logind{bus: bus, changed: make(chan struct{}, 1), lost: make(chan struct{}), limit: limit}
	if err := l.watch(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// reopenLogind connects again after the bus was lost, as soon as there is one.
func reopenLogind(ctx context.Context) (*logind, error) {
	for retry := time.Second; ; retry = min(2*retry, logindRetry) {
		bus, err := openLogind(busLimit)
		if err == nil {
			return bus, nil
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// watch has changed tell of every change.
func (l *logind) watch() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.limit)
	defer cancel()
	for _, member := range []string{"SessionNew", "SessionRemoved"} {
		if err := l.bus.AddMatchSignalContext(ctx, dbus.WithMatchInterface(logindManager), dbus.WithMatchMember(member)); err != nil {
			return fmt.Errorf("listen to logind: %w", err)
		}
	}
	signals := make(chan *dbus.Signal, 16)
	l.bus.Signal(signals)
	go func() {
		for range signals { // closed with the bus
			l.look()
		}
		close(l.lost)
	}()
	return l.watchFiles()
}

func (l *logind) look() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *logind) close() {
	l.bus.Close()
	if l.files != nil {
		l.files.Close()
	}
}

func (l *logind) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return l.callWithin(l.limit, path, method, args...)
}

func (l *logind) callWithin(limit time.Duration, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return l.bus.Object(logindName, path).CallWithContext(ctx, method, 0, args...)
}

func (l *logind) property(path dbus.ObjectPath, of, name string) (v dbus.Variant, err error) {
	err = l.call(path, "org.freedesktop.DBus.Properties.Get", of, name).Store(&v)
	return v, err
}

const logindPath = dbus.ObjectPath("/org/freedesktop/login1")

// logins counts a user's login sessions, and says whether that is a display
// manager's user, who has a session for its greeter.
func (l *logind) logins(uid int) (n int, greeter bool, err error) {
	var sessions []struct {
		ID         string
		UID        uint32
		User, Seat string
		Path       dbus.ObjectPath
	}
	if err := l.call(logindPath, logindManager+".ListSessions").Store(&sessions); err != nil {
		return 0, false, fmt.Errorf("ask logind for sessions: %w", err)
	}
	for _, s := range sessions {
		if int(s.UID) != uid {
			continue
		}
		var p map[string]dbus.Variant
		err := l.call(s.Path, "org.freedesktop.DBus.Properties.GetAll", logindSession).Store(&p)
		var gone dbus.Error
		if errors.As(err, &gone) && strings.HasPrefix(gone.Name, "org.freedesktop.DBus.Error.Unknown") {
			continue // since it was listed
		}
		if err != nil {
			return 0, false, fmt.Errorf("ask logind for session %s: %w", s.ID, err)
		}
		word := func(name string) string { w, _ := p[name].Value().(string); return w }
		if isLogin(word("Class"), word("Service"), word("State")) {
			n++
		}
		greeter = greeter || word("Class") == "greeter"
	}
	return n, greeter, nil
}

// isLogin says whether a session is what a person opens.
func isLogin(class, service, state string) bool {
	if !pamservice.OpensLogin(service) {
		return false
	}
	// With systemd 256 come user-early, user-light and more.
	kind, light, _ := strings.Cut(class, "-")
	return kind == "user" && light != "none" && state != "closing"
}

// lingers says whether the user's manager runs without a login, too.
func (l *logind) lingers(uid int) (bool, error) {
	var path dbus.ObjectPath
	err := l.call(logindPath, logindManager+".GetUser", uint32(uid)).Store(&path)
	var unknown dbus.Error
	if errors.As(err, &unknown) && unknown.Name == logindName+".NoSuchUser" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask logind for uid %d: %w", uid, err)
	}
	v, err := l.property(path, logindUser, "Linger")
	lingers, _ := v.Value().(bool)
	return lingers, err
}
