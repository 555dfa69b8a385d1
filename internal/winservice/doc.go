// Package winservice makes this program a service of Windows: it installs and removes
// one, and runs as one. A service keeps the words that it was installed with, starts
// with the machine, and stops in good order when Windows asks for it.
//
// Elsewhere nothing starts a program that way, and nothing can be installed.
package winservice

import "errors"

// ErrNotStarted tells that it was not the service manager of Windows who has started
// this process.
var ErrNotStarted = errors.New("not started as a service")
