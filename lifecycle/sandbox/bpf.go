package sandbox

import "golang.org/x/sys/unix"

// A rule is for a system call whose arguments pass all checks. More rules may be
// for the same one; the first that fits decides.
type rule struct {
	call    uint32
	checks  []check
	verdict uint32 // 0: it may be made
}

// A check wants the bits of mask in an argument to be those of value.
type check struct {
	arg         uint32
	mask, value uint64
}

// all32 are the bits of an int: the kernel ignores the others.
const all32 = 1<<32 - 1

// Offsets into struct seccomp_data (seccomp(2)); args are 8 bytes each, the low
// half first on the little-endian machines there are filters for.
const (
	dataCall = 0
	dataArch = 4
	dataArgs = 16
)

// assemble makes the filter: what no rule fits gets the verdict, a call in
// another architecture's convention is the end.
func assemble(rules []rule, arch, verdict uint32) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	// skip passes over n instructions unless what is loaded is k.
	skip := func(k uint32, n int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(n), K: k}
	}
	say := func(verdict uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
	}
	program := []unix.SockFilter{load(dataArch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: arch},
		say(unix.SECCOMP_RET_KILL_PROCESS), load(dataCall)}
	for _, r := range rules {
		if r.verdict == 0 {
			r.verdict = unix.SECCOMP_RET_ALLOW
		}
		if len(r.checks) == 0 {
			program = append(program, skip(r.call, 1), say(r.verdict))
			continue
		}
		var body []unix.SockFilter
		for _, c := range r.checks {
			for half := range uint32(2) {
				mask, value := uint32(c.mask>>(32*half)), uint32(c.value>>(32*half))
				if mask != 0 {
					// A jump with 0 to skip is filled in below.
					body = append(body, load(dataArgs+8*c.arg+4*half),
						unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}, skip(value, 0))
				}
			}
		}
		body = append(body, say(r.verdict))
		for i := range body {
			if body[i].Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K {
				body[i].Jf = uint8(len(body) - i - 1)
			}
		}
		// What is loaded is an argument now.
		program = append(program, skip(r.call, len(body)+1))
		program = append(append(program, body...), load(dataCall))
	}
	return append(program, say(verdict))
}
