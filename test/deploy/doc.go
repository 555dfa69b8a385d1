// Package deploy tries what deploy/ has: the unit's privileges and filters, the
// samples, the image's contents, and the commands of management.md.
//
// No service manager and no container engine runs here. The tests do to a process
// what those would do, as far as pen notices it: user, capabilities, limits, system call
// filter, the socket for readiness, an empty root.
package deploy
