package daemon

import "runtime/debug"

// trace says how much a failure of pen itself leaves behind: with abort_on_error
// the stacks of all goroutines, and a core file where the system keeps any.
func trace(abort bool) {
	if !abort {
		debug.SetTraceback("single")
		return
	}
	debug.SetTraceback("crash")
	allowCore()
}

// failed is called when a part has ended by itself. It does not come back if that is
// to be looked into: the other parts still run, so the stacks tell what they were at.
// To those who share the addresses it is as if the process were killed.
func (d *daemon) failed(err error) {
	if d.local.Load().AbortOnError {
		panic("abort_on_error: " + err.Error())
	}
}
