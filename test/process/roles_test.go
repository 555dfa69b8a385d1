//go:build linux

package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pen/test/rig"
)

// A process may open 20,000 files where these tests run, and pen needs most of
// them: its clients and servers are processes of their own. They are this test
// binary, which takes a role from its environment and then reads commands from
// standard input, one a line, and answers each with a line.
const roleEnv = "PEN_TEST_ROLE"

// play is what a process with a role does instead of testing.
func play(role string) int {
	word, rest, _ := strings.Cut(role, " ")
	var obey func(string) string
	switch word {
	case "server":
		name, addr, _ := strings.Cut(rest, " ")
		l, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go echo(l, name)
		obey = func(string) string { return "ok" }
	case "crowd":
		c := &crowd{addr: rest}
		obey = c.obey
	default:
		fmt.Println("no such role")
		return 1
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(obey(in.Text()))
	}
	return 0 // the test has ended
}

// echo answers each line with a name and the line.
func echo(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			in := bufio.NewReaderSize(c, 64)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %s", name, line)
			}
		}()
	}
}

// crowd is many clients.
type crowd struct {
	addr     string
	mu       sync.Mutex // guards held and failure
	held     []net.Conn
	failure  error // the first
	answered atomic.Int64
	failed   atomic.Int64
}

func (c *crowd) obey(line string) string {
	var word string
	var n int
	fmt.Sscan(line, &word, &n)
	switch word {
	case "open": // n clients, 100 at once, and wait for all
		var wg sync.WaitGroup
		places := make(chan struct{}, 100)
		for i := range n {
			places <- struct{}{}
			wg.Go(func() { c.one(i); <-places })
		}
		wg.Wait()
	case "queue": // n clients at once, and wait for none
		for i := range n {
			go c.one(i)
		}
	case "close": // the n that came first
		c.mu.Lock()
		for _, conn := range c.held[:n] {
			conn.Close()
		}
		c.held = c.held[n:]
		c.mu.Unlock()
	case "count":
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d answered, %d failed, first error %v", c.answered.Load(), c.failed.Load(), c.failure)
}

// one connects, sends a line, reads the answer and stays.
func (c *crowd) one(i int) {
	conn, err := ask(c.addr, fmt.Sprintf("127.0.0.%d:0", 10+i%20), time.Minute)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed.Add(1)
		if c.failure == nil {
			c.failure = err
		}
		return
	}
	c.held = append(c.held, conn)
	c.answered.Add(1)
}

func ask(addr, source string, patience time.Duration) (net.Conn, error) {
	from, err := net.ResolveTCPAddr("tcp", source)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: from, Timeout: patience, Control: rig.NoPort}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	var b [64]byte
	if _, err = io.WriteString(conn, "hi\n"); err == nil {
		_, err = conn.Read(b[:])
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// actor is a process with a role, seen from the test.
type actor struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newActor(t testing.TB, role string) *actor {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, cmd: exec.Command(exe)}
	a.cmd.Env = append(rig.Env(), roleEnv+"="+role)
	a.cmd.Stderr = os.Stderr
	in, err1 := a.cmd.StdinPipe()
	out, err2 := a.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, a.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	a.in, a.out = in, bufio.NewReader(out)
	t.Cleanup(a.kill)
	a.do("ready?")
	return a
}

func (a *actor) do(command string) string {
	a.t.Helper()
	fmt.Fprintln(a.in, command)
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.t.Fatalf("%s: %v %s", command, err, line)
	}
	return strings.TrimSpace(line)
}

// kill ends the process as a crash would, and returns when it is gone.
func (a *actor) kill() {
	a.cmd.Process.Kill()
	a.cmd.Wait()
}
