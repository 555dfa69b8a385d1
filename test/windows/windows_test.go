//go:build linux

package windows

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"pen/test/rig"
)

// One Windows for all of it: to make one takes most of the time.
func TestUnderWine(t *testing.T) {
	b := unpack(t)
	for _, part := range []struct {
		name string
		run  func(*box)
	}{
		{"looks", looks},
		{"serves in the foreground", foreground},
		{"refuses what could not start", refusals},
		{"is a service that keeps its words", withWords},
		{"is a service with pen.cfg", withFile},
	} {
		t.Run(part.name, func(t *testing.T) {
			inner := *b
			inner.t = t
			part.run(&inner)
		})
	}
}

func looks(b *box) {
	if out := b.pen("--version"); !strings.HasPrefix(out, "pen ") {
		b.t.Errorf("--version: got %q", out)
	}
	b.pen("--check", "127.0.0.1:18080", "127.0.0.1:80")
	b.refuses("did you mean", "--check", "--timeot", "5", "127.0.0.1:18080")
}

// way is an address to listen on, and a server.
func (b *box) way() (listen, server string) {
	block := rig.NewBlock(b.t)
	server = block.Addr(11, 9001)
	rig.NewBackend(b.t, "a", server)
	return block.Listen(), server
}

// answers waits until a client gets its answer.
func (b *box) answers(listen string) {
	b.t.Helper()
	var got string
	var err error
	if !rig.Eventually(commandPatience, func() bool {
		got, err = rig.Fetch("", listen)
		return got == "a"
	}) {
		b.t.Errorf("a client gets %q, %v", got, err)
	}
}

func foreground(b *box) {
	listen, server := b.way()
	cmd := exec.Command(b.wine, b.exe, "-f", "-d", listen, server)
	cmd.Env = b.env
	p := rig.StartCmd(b.t, b.folder, cmd)
	b.answers(listen)
	if p.Exited() {
		b.t.Errorf("it has ended: %s", p.Stderr())
	}
	b.refuses("install a service", "127.0.0.1:18080", server) // instead of the background
}

func refusals(b *box) {
	b.refuses("pen.cfg: error", "-i", "pen-nothing")
	b.refuses("unknown option --xyz", "-i", "pen-nothing", "--xyz")
	b.refuses("takes no other word", "-u", "nobody", "127.0.0.1:18080")
	b.refuses("remove the service pen-nothing", "-u", "pen-nothing")
	if out, err := b.windows("sc", "query", "pen-nothing"); err == nil && strings.Contains(out, "STATE") {
		b.t.Errorf("there is a service: %s", out)
	}
}

func withWords(b *box) {
	const name = "pen words"
	listen, server := b.way()
	b.write("its own.cfg", fmt.Sprintf("server 0 address %s port %s\n", host(server), port(server)))
	b.pen("-dFits own.cfg", "-i", name, "-O", "server 0 max 500", listen)
	b.refuses("there is one already", "-i", name, listen, server)
	b.reaches(name, "STOPPED") // to install is not to start
	b.start(name)
	b.answers(listen)
	b.logged("connection closed")
	if out, err := b.windows("sc", "stop", name); err != nil {
		b.t.Errorf("stop: %v\n%s", err, out)
	}
	b.reaches(name, "STOPPED")
	if _, err := net.Dial("tcp", listen); err == nil {
		b.t.Error("it listens after it has stopped")
	}
	b.start(name)
	b.answers(listen)
	b.removed(name)
}

func withFile(b *box) {
	const name = "pen"
	listen, server := b.way()
	b.write("pen.cfg", fmt.Sprintf("listen %s\nserver 0 address %s port %s\n", listen, host(server), port(server)))
	b.pen("-i", name)
	b.start(name)
	b.answers(listen)
	b.removed(name)
	if _, err := net.Dial("tcp", listen); err == nil {
		b.t.Error("it listens after it was removed")
	}
}

func (b *box) start(name string) {
	b.t.Helper()
	if out, err := b.windows("sc", "start", name); err != nil {
		b.t.Fatalf("start: %v\n%s", err, out)
	}
	b.reaches(name, "RUNNING")
}

// removed removes a service, whether it runs or not.
func (b *box) removed(name string) {
	b.t.Helper()
	b.pen("-u", name)
	if out, _ := b.windows("sc", "query", name); strings.Contains(out, "STATE") {
		b.t.Errorf("it is still there: %s", out)
	}
}

func host(addr string) string { h, _, _ := net.SplitHostPort(addr); return h }

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
