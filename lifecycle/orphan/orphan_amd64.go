//lint:file-ignore U1000 the assembly uses them

package orphan

// handle is the handler, and restore is where it returns to: both are for the
// kernel alone to call.
func handle()
func restore()

func addresses() (handler, restorer uintptr)
