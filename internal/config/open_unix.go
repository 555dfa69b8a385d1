//go:build unix

package config

import "syscall"

// openFlags keep a pipe without a writer from holding up who opens it, and a
// terminal from becoming that of the process.
const openFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
