package lifecycle

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
)

// lookAtThread answers what a worker asks of a thread, of which it knows a number
// and cannot know more: it is locked out of /proc. The thread waits for an answer
// to a request, so it is still there. To read the stat of a thread that is in an exec
// would wait for that, and it for the answer; one that may be ending is in none.
func lookAtThread(want fs.Answer, thread, other uint32) (a fs.Answer) {
	if want&fs.AnswerSame != 0 && unix.Access(fmt.Sprintf("/proc/%d/task/%d", other, thread), unix.F_OK) == nil {
		a |= fs.AnswerSame
	}
	if want&fs.AnswerKilled == 0 {
		return a
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/stat", thread), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return a
	}
	defer unix.Close(fd)
	var stat [1024]byte // of 60 numbers or so
	if n, err := unix.Read(fd, stat[:]); err == nil && wasKilled(stat[:n]) {
		a |= fs.AnswerKilled
	}
	return a
}

// Fields of /proc/PID/stat (proc_pid_stat(5)), counted behind the name, which may
// itself have parentheses and spaces.
const (
	statFlags    = 9 - 3
	statExitCode = 52 - 3
)

// exiting is PF_EXITING of include/linux/sched.h: from then on the exit code is
// one, as in wait(2).
const exiting = 0x4

// wasKilled says whether a thread ends with its process because of a signal. All
// threads of a process that ends have the same exit code, whichever of them closes
// the files in the end; the flag that one was killed (PF_SIGNALED) they have also
// where another one called exit(2).
func wasKilled(stat []byte) bool {
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) <= statExitCode {
		return false
	}
	flags, err := strconv.ParseUint(string(f[statFlags]), 10, 32)
	code, err2 := strconv.ParseUint(string(f[statExitCode]), 10, 32)
	return err == nil && err2 == nil && flags&exiting != 0 && unix.WaitStatus(code).Signaled()
}
