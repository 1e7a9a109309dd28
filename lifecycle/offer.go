package lifecycle

import (
	"encoding/json"
	"fmt"
	"os"
)

// runVar tells a keeper what it serves. Only Run sets it.
const runVar = "_TOKENFS_RUN"

// runKeeper is what a keeper is told there.
type runKeeper struct {
	Command  bool   `json:"command"`            // there is one
	Socket   string `json:"socket,omitempty"`   // without its .sock; beside the mountpoint if empty
	Remove   string `json:"remove,omitempty"`   // runtime directory that was made
	Handover int    `json:"handover,omitempty"` // descriptor, its end of one by the launcher
}

// keeperOfRun says what this keeper serves, if that is a command's.
func keeperOfRun() (k runKeeper, err error) {
	if text, ok := os.LookupEnv(runVar); ok {
		if err = json.Unmarshal([]byte(text), &k); err != nil {
			err = fmt.Errorf("internal error: %s: %w", runVar, err)
		}
	}
	return k, err
}

// private says whether the mount is not for this keeper to make.
func (k runKeeper) private() bool { return k.Handover != 0 }

// A keeper is asked by a launcher to mount on the directory that comes with the
// offer, or at its path over what is mounted there; with it come the namespaces.
// Instead there can be an error.
type privateOffer struct {
	Path  string `json:"path"`
	Over  bool   `json:"over"`
	User  bool   `json:"user"`
	Error string `json:"error,omitempty"`
}

// privateMade is the answer.
type privateMade struct {
	Error string `json:"error,omitempty"`
}

// privateState is what the keeper gets then, or why not, with descriptors: the
// mount table of the namespace, and the directory beneath the mount unless that is
// a mount itself.
type privateState struct {
	Path  string     `json:"path"`
	Entry mountEntry `json:"entry"`
	Error string     `json:"error,omitempty"`
}
