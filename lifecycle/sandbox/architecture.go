package sandbox

import (
	"runtime"

	"github.com/elastic/go-seccomp-bpf/arch"
)

// filtered has the architectures whose system calls rules was written for and
// seen on. The others get no filter, and status says so.
var filtered = map[string]bool{"amd64": true, "arm64": true}

// native is this machine's architecture, nil if there is no filter for it.
//
// The tables of the library cost each process 160 KiB of heap and 60 KiB of
// program; a table of our own was 733 lines to keep in step with the kernel.
var native = func() *arch.Info {
	if !filtered[runtime.GOARCH] {
		return nil
	}
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return info
}()
