package sandbox

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// run is the kernel's interpreter, as far as assemble uses it.
func run(t *testing.T, program []unix.SockFilter, arch, call uint32, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[dataCall:], call)
	binary.LittleEndian.PutUint32(data[dataArch:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[dataArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		switch in := program[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if acc == in.K {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
	t.Fatal("the program runs off its end")
	return 0
}

func TestAssemble(t *testing.T) {
	const arch, other, allow, verdict = 7, 8, uint32(unix.SECCOMP_RET_ALLOW), uint32(unix.SECCOMP_RET_TRAP)
	program := assemble([]rule{
		{call: 1},
		{call: 2, checks: []check{{2, 4, 0}}},
		{call: 3, checks: []check{{0, all32, 5}, {1, 1<<40 | 1, 1 << 40}}},
		{call: 3, checks: []check{{0, all32, 6}}},
		{call: 9, verdict: 42},
		{call: 4},
	}, arch, verdict)
	for _, c := range []struct {
		call uint32
		args []uint64
		want uint32
	}{
		{1, nil, allow},
		{0, nil, verdict},
		{5, nil, verdict},
		{1 | 0x4000_0000, nil, verdict}, // x32
		{2, []uint64{0, 0, 3}, allow},
		{2, []uint64{0, 0, 7}, verdict},
		{2, []uint64{4, 4, 1 << 34}, allow},
		{3, []uint64{5, 1 << 40}, allow},
		{3, []uint64{5 | 1<<32, 1<<40 | 6}, allow},
		{3, []uint64{5, 1<<40 | 1}, verdict},
		{3, []uint64{5, 0}, verdict},
		{3, []uint64{6, 0}, allow},
		{3, []uint64{7, 1 << 40}, verdict},
		{9, nil, 42},
		{4, nil, allow}, // behind all that loads something else
	} {
		if got := run(t, program, arch, c.call, c.args...); got != c.want {
			t.Errorf("call %d%v: %#x, want %#x", c.call, c.args, got, c.want)
		}
		if got := run(t, program, other, c.call, c.args...); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("call %d%v of another architecture: %#x", c.call, c.args, got)
		}
	}
}

// The filter lets no more pass than its table says, of all calls there are.
func TestFilterIsSmall(t *testing.T) {
	if native == nil {
		t.Skip("NOT RUN: no filter for this architecture")
	}
	program := assemble(rules(), uint32(native.ID), unix.SECCOMP_RET_KILL_PROCESS)
	own := uint64(os.Getpid())
	passed := 0
	for call := range uint32(1024) {
		verdict := run(t, program, uint32(native.ID), call)
		for _, args := range [][]uint64{{own}, {goFlags}, {0, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}} {
			if v := run(t, program, uint32(native.ID), call, args...); v == unix.SECCOMP_RET_ALLOW {
				verdict = v
			}
		}
		if verdict == unix.SECCOMP_RET_ALLOW {
			passed++
		}
	}
	if passed > Calls() || passed < 25 || len(program) > 150 {
		t.Errorf("%d calls pass, the table has %d; %d instructions", passed, Calls(), len(program))
	}
	t.Logf("%d system calls pass, of %d that have names; %d instructions", passed, len(native.SyscallNumbers), len(program))
	for name, forbidden := range map[string]struct {
		call uint32
		args []uint64
	}{
		"mmap to execute":          {unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}},
		"a process":                {unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}},
		"a thread elsewhere":       {unix.SYS_CLONE, []uint64{goFlags | unix.CLONE_NEWUSER}},
		"another process's thread": {unix.SYS_TGKILL, []uint64{own + 1, own + 1, 0}},
		"a file that grows":        {unix.SYS_FALLOCATE, []uint64{3, 0, 0, 4096}},
	} {
		if got := run(t, program, uint32(native.ID), forbidden.call, forbidden.args...); got == unix.SECCOMP_RET_ALLOW {
			t.Errorf("%s passes", name)
		}
	}
}
