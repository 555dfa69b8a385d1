//go:build linux

package differential

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"pen/test/rig"
)

// send sends bytes on a connection that is held, in one piece, and waits for an
// answer to each line: so the next piece is read for itself.
func (x *session) send(args string) (string, error) {
	name, rest, _ := strings.Cut(args, " ")
	parts, err := bytesOf(rest)
	if err != nil {
		return "", err
	}
	data := strings.Join(parts, "")
	if _, err := x.held[name].Write([]byte(data)); err != nil {
		return "", fate(err)
	}
	for range strings.Count(data, "\n") {
		if _, err := x.held[name].Line(); err != nil {
			return "", fate(err)
		}
	}
	return "", nil
}

var epoch = regexp.MustCompile(` 1\d{9} `)

// logged shows a request log, a line quoted as in Go each, without the time.
func (x *session) logged(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		return "no file\n", nil
	}
	var out strings.Builder
	for l := range strings.Lines(string(b)) {
		fmt.Fprintf(&out, "%q\n", epoch.ReplaceAllString(l, " EPOCH "))
	}
	return out.String(), nil
}

// collector takes datagrams at {log}, which is number 3, port 9514.
func (x *session) collector(string) (string, error) {
	c, err := net.ListenPacket("udp", x.block.Addr(3, 9514))
	if err == nil {
		x.collected = c
		x.t.Cleanup(func() { c.Close() })
	}
	return "", err
}

// collect shows the next datagram, quoted.
func (x *session) collect(string) (string, error) {
	buf := make([]byte, 4096)
	x.collected.SetReadDeadline(time.Now().Add(rig.Patience))
	n, _, err := x.collected.ReadFrom(buf)
	if err != nil {
		return "", fate(err)
	}
	return fmt.Sprintf("%q\n", buf[:n]), nil
}
