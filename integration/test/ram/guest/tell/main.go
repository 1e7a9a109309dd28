// Command tell asks a test build of tokenfs, in the machine, for its keys, and finds out
// which page frames hold its key region and its arena.
//
//	tell USER
//
// It runs as root, who may learn frame numbers, and asks as USER, who may ask. The keys
// come inverted and stay so: what passes through memory here is no find. Prints JSON.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

type span struct {
	Start, End uint64
	What       string
}

type reply struct {
	Error   string   `json:"error"`
	Keys    []string `json:"keys"`
	Regions []span   `json:"regions"`
	Arena   []span   `json:"arena"`
	Status  struct {
		Worker struct {
			PID int `json:"pid"`
		} `json:"worker"`
	} `json:"status"`
}

// told is what the harness reads.
type told struct {
	Keys   []string            `json:"keys"`
	Frames map[string][]uint64 `json:"frames"`
	Sizes  map[string]uint64   `json:"sizes"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tell:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && args[0] == "ask" {
		return ask(args[1], args[2])
	}
	if len(args) != 1 {
		return fmt.Errorf("usage: tell USER")
	}
	u, err := user.Lookup(args[0])
	if err != nil {
		return err
	}
	status, err := askAs(u, "status")
	if err != nil {
		return err
	}
	revealed, err := askAs(u, "reveal")
	if err != nil {
		return err
	}
	out := told{revealed.Keys, map[string][]uint64{}, map[string]uint64{}}
	for _, s := range append(revealed.Regions, revealed.Arena...) {
		out.Sizes[s.What] = s.End - s.Start
		if out.Frames[s.What], err = frames(status.Status.Worker.PID, s); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// ask puts one question to the control socket at path, and prints the answer.
func ask(path, verb string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, `{"v":1,"verb":%q}`+"\n", verb); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return err
	}
	_, err = os.Stdout.Write(line)
	return err
}

func askAs(u *user.User, verb string) (r reply, err error) {
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	c := exec.Command("/proc/self/exe", "ask", "/run/user/"+u.Uid+"/tokenfs.sock", verb)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return r, fmt.Errorf("asking for %s: %w", verb, err)
	}
	if err := json.Unmarshal(out, &r); err != nil || r.Error != "" {
		return r, fmt.Errorf("asked for %s, tokenfs answers %q (%v)", verb, r.Error, err)
	}
	return r, nil
}

// frames lists the page frames that are present behind a span of a process's addresses.
func frames(pid int, s span) (all []uint64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const page, present = 4096, 1 << 63
	buf := make([]byte, 1<<16)
	for at, end := s.Start/page, (s.End+page-1)/page; at < end; {
		n, err := f.ReadAt(buf[:min(uint64(len(buf)), 8*(end-at))], int64(8*at))
		if n < 8 {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		for i := 0; i+8 <= n; i += 8 {
			if e := binary.LittleEndian.Uint64(buf[i:]); e&present != 0 {
				all = append(all, e&(1<<55-1))
			}
		}
		at += uint64(n / 8)
	}
	return all, nil
}
