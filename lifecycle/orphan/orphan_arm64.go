//lint:file-ignore U1000 the assembly uses them

package orphan

// handle is the handler, for the kernel alone to call. It returns to code of the
// kernel's.
func handle()

// addresses returns no restorer.
func addresses() (handler, restorer uintptr)
