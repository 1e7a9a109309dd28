package lifecycle

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchedEvents are those of a file that is made, written, replaced or removed.
const watchedEvents = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE

// watchFile says on the channel that the file at path may have changed, and closes
// it when it cannot tell any more. It watches the directory: the file itself may
// be one that its user cannot read, and goes when it is replaced.
func watchFile(path string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), watchedEvents|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		events := os.NewFile(uintptr(fd), "inotify")
		defer events.Close()
		defer close(changed)
		name, buf := filepath.Base(path), make([]byte, 4096)
		for {
			n, err := events.Read(buf)
			if err != nil {
				return
			}
			concern, over := eventsConcern(buf[:n], name)
			if concern {
				select {
				case changed <- struct{}{}:
				default: // that is to be said already
				}
			}
			if over {
				return
			}
		}
	}()
	return changed, nil
}

// eventsConcern says whether some of the events are about a name, or about one
// that begins so: what a package manager calls a file before and after it replaces
// it (tokenfs.dpkg-new). over means that no more will come.
func eventsConcern(events []byte, name string) (concern, over bool) {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[unsafe.Offsetof(unix.InotifyEvent{}.Mask):])
		size := int(binary.NativeEndian.Uint32(events[unsafe.Offsetof(unix.InotifyEvent{}.Len):]))
		events = events[unix.SizeofInotifyEvent:]
		if size > len(events) {
			break
		}
		if strings.HasPrefix(unix.ByteSliceToString(events[:size]), name) || mask&unix.IN_Q_OVERFLOW != 0 {
			concern = true
		}
		over = over || mask&unix.IN_IGNORED != 0
		events = events[size:]
	}
	return concern, over
}
