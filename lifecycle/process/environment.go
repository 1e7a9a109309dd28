package process

import "os"

// A process of ours begins with what its caller had: an environment and open
// descriptors. The caller is whoever logs in, with all that a shell, a desktop or
// the user manager has collected. It must neither stay in memory, where secrets
// would be among it, nor decide anything: GODEBUG can take the AES instructions
// away from the standard library, PATH names programs, and what is open could be
// read and written by a worker that somebody has taken over.
//
// So each process that serves has an environment of ours, which lists what may
// stand in it and why, and no descriptor but what it was given on purpose.

// RuntimeSettings is the GODEBUG of every process that serves, and all of it.
//
// Asynchronous preemption interrupts a thread with a signal and leaves its
// registers in the signal frame, on the stack, where keys are then found. What the
// runtime does by the other two takes system calls, and wakes an idle process
// every second.
const RuntimeSettings = "updatemaxprocs=0,decoratemappings=0,asyncpreemptoff=1"

// What a process keeps of its caller's environment.
var (
	// Only a binary that was built for coverage, for finding races, or to obey tests,
	// looks at these.
	TestVars = append([]string{"GOCOVERDIR", "GORACE"}, hookVars...)
	// DaemonVars tell a keeper where the user's runtime directory is, to know
	// whether it is at its default place; where to note that it has switched
	// lingering on; and where linked apps are, to put them back when the program is
	// removed from the machine.
	DaemonVars = append([]string{"XDG_RUNTIME_DIR", "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"}, TestVars...)
	// UnitVars are for a keeper that takes its caller's place.
	UnitVars = append([]string{"NOTIFY_SOCKET"}, DaemonVars...)
)

// Environment is one of ours, with those variables that are set.
func Environment(names []string) []string {
	env := []string{"GODEBUG=" + RuntimeSettings}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
