package run

import (
	"encoding/json"
	"fmt"
	"os"

	"tokenfs/lifecycle/mount"
)

// KeeperVar tells a keeper what it serves. Only Run sets it.
const KeeperVar = "_TOKENFS_RUN"

// Keeper is what a keeper is told there.
type Keeper struct {
	Command  bool   `json:"command"`            // there is one
	Socket   string `json:"socket,omitempty"`   // without its .sock; beside the mountpoint if empty
	Remove   string `json:"remove,omitempty"`   // runtime directory that was made
	Handover int    `json:"handover,omitempty"` // descriptor, its end of one by the launcher
}

// KeeperOf says what this keeper serves, if that is a command's.
func KeeperOf() (k Keeper, err error) {
	if text, ok := os.LookupEnv(KeeperVar); ok {
		if err = json.Unmarshal([]byte(text), &k); err != nil {
			err = fmt.Errorf("internal error: %s: %w", KeeperVar, err)
		}
	}
	return k, err
}

// Private says whether the mount is not for this keeper to make.
func (k Keeper) Private() bool { return k.Handover != 0 }

// Offer is what a launcher asks its keeper: to mount on the directory that comes with
// it, or at its path over what is mounted there. The namespaces come with it, too.
// Instead there can be an error.
type Offer struct {
	Path  string `json:"path"`
	Over  bool   `json:"over"`
	User  bool   `json:"user"`
	Error string `json:"error,omitempty"`
}

// Made is the keeper's answer.
type Made struct {
	Error string `json:"error,omitempty"`
}

// Mounted is what the keeper gets then, or why not, with descriptors: the
// mount table of the namespace, and the directory beneath the mount unless that is
// a mount itself.
type Mounted struct {
	Path  string      `json:"path"`
	Entry mount.Entry `json:"entry"`
	Error string      `json:"error,omitempty"`
}
