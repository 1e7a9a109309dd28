package apps

import (
	"path/filepath"
)

// foretell says what linking would do.
func (e *Engine) foretell(a App, todo, linkedNow []*link) error {
	for _, l := range todo {
		if l.File != "" {
			e.Result("would link %s by %s", e.Dirs.Contract(filepath.Join(l.Dir, l.File)), l.Variable)
		} else {
			e.Result("would link %s", e.Dirs.Contract(l.Dir))
		}
		files, err := placeFor(l).inventory(l.Dir, l.Moved)
		if err != nil {
			return err
		}
		if len(files) > 0 {
			e.Result("would move into memory, which the last logout ends:")
		}
		for _, line := range inventoryLines(files) {
			e.Result("%s", line)
		}
		if l.File == "" && len(l.Kept) > 0 {
			e.Result("would keep on disk, in %s: %s", e.Dirs.Contract(l.kept()), someOf(l.Kept))
		}
	}
	for _, l := range linkedNow {
		strays := placeFor(l).movedIn(l.onDisk())
		switch {
		case !e.switched(l):
			e.Result("would link %s again: it %s", e.Dirs.Contract(l.Dir), broken(l))
		case len(strays) > 0:
			e.Result("would move in from %s: %s", e.Dirs.Contract(l.onDisk()), someOf(strays))
		default:
			e.Result("%s is linked already", e.Dirs.Contract(filepath.Join(l.Dir, l.File)))
		}
	}
	return e.fits(todo)
}

// foretellBack says what unlinking would do.
func (e *Engine) foretellBack(todo []*link) {
	for _, l := range todo {
		e.Result("would unlink %s", e.Dirs.Contract(filepath.Join(l.Dir, l.File)))
		if len(l.Back) > 0 {
			e.Result("would bring back to disk: %s", someOf(l.Back))
		}
	}
}
