// Package windows tries pen.exe under wine: that it runs, serves, and can be installed
// and removed as a service that keeps its arguments. Wine is no Windows, but its
// loader, its sockets and its service manager follow the same book.
package windows
