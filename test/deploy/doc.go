// Package deploy tries what deploy/ has: the unit's privileges and filters, the
// samples, the image's contents, and what management.md tells to type.
//
// No service manager and no container engine runs here. The tests do to a process
// what those would do, as far as pen notices it: user, capabilities, limits, system call
// filter, the socket for readiness, an empty root. Not shown are the read-only file
// system, KillMode and Restart of the unit, and the commands of systemctl, docker
// and install.
package deploy
