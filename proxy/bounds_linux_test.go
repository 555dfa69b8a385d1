package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

var quiet = slog.New(slog.DiscardHandler)

// cpu returns the processor time that the process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// restful fails the test if the process is busy while nothing should happen.
func restful(t testing.TB) {
	t.Helper()
	before := cpu(t)
	time.Sleep(300 * time.Millisecond)
	if used := cpu(t) - before; used > 100*time.Millisecond {
		t.Errorf("%v of CPU in 300 ms: something spins", used)
	}
}

func TestFullTableLetsClientsWait(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			s := newSmall(t, Options{Loops: loops}, 3, backend(t, loopback, echo))
			var in, waiting []duplex
			for range 3 {
				c := s.dial()
				exchange(t, c, "in")
				in = append(in, c)
			}
			for range 5 {
				c := s.dial() // by the kernel
				io.WriteString(c, "waiting")
				waiting = append(waiting, c)
			}
			time.Sleep(20 * time.Millisecond)
			if n := s.Stats("").Used; n != 3 {
				t.Errorf("%d connections, want 3", n)
			}
			restful(t)
			for i, c := range waiting {
				if i < len(in) {
					in[i].Close()
				} else {
					waiting[i-len(in)].Close()
				}
				got := make([]byte, 7)
				if _, err := io.ReadFull(c, got); err != nil || string(got) != "waiting" {
					t.Errorf("waiting client %d got %q, %v", i, got, err)
				}
			}
			for _, c := range waiting {
				c.Close()
			}
			eventually(t, "all gone", func() bool { return s.Stats("").Used == 0 })
			exchange(t, s.dial(), "again as ever")
		})
	}
}

func TestMoreSlotsAtRunTime(t *testing.T) {
	s := newSmall(t, Options{}, 1, backend(t, loopback, echo))
	exchange(t, s.dial(), "in")
	c := s.dial()
	io.WriteString(c, "waiting")
	time.Sleep(20 * time.Millisecond)
	s.mu.Lock()
	s.conns = 600
	s.mu.Unlock()
	s.set(state.OptConnMax, state.Int(600))
	if _, err := io.ReadFull(c, make([]byte, 7)); err != nil {
		t.Error(err)
	}
	if got := s.Stats("").Max; got != 600 {
		t.Errorf("%d slots, want 600", got)
	}
}

func TestPendingMaxLetsClientsWait(t *testing.T) {
	s := newStand(t, Options{}, silent(t))
	s.set(state.OptPendingMax, state.Int(2))
	s.set(state.OptTimeout, state.Int(1))
	var clients []duplex
	for range 4 {
		c := s.dial()
		clients = append(clients, c)
	}
	eventually(t, "two connects under way", func() bool { return len(s.Connections("")) == 2 })
	restful(t)
	if n := len(s.Connections("")); n != 2 {
		t.Errorf("%d connects under way, want 2", n)
	}
	for i, c := range clients {
		if got := all(t, c); got != "" {
			t.Errorf("client %d got %q", i, got)
		}
	}
	if st := s.Stats(""); st.Accepted != 4 || st.Refused["no_server"] != 4 {
		t.Errorf("service: %+v", st)
	}
}

func TestFilesAreBounded(t *testing.T) {
	s := newStand(t, Options{Files: 5}, backend(t, loopback, echo))
	a, b := s.dial(), s.dial()
	exchange(t, a, "a")
	exchange(t, b, "b")
	c := s.dial()
	io.WriteString(c, "c")
	eventually(t, "accepting pauses", func() bool { return s.Stats("").AcceptPauses == 1 })
	if got := s.Stats("").Files; got != 4 {
		t.Errorf("%d descriptors, want 4", got)
	}
	restful(t)
	a.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestPausesDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	s := newStill(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, 0)
	defer s.Drain(t.Context())
	f := s.front("")
	l := &loop{engine: s.engine, now: time.Now()}
	for range 1000 { // pauses that end at once
		l.hold(f.listeners[0], f, unix.EMFILE)
		l.naps = nil
		f.listeners[0].pause.Store(0)
		l.now = l.now.Add(15 * time.Millisecond)
	}
	if n := strings.Count(log.String(), "accepting pauses"); n != 2 {
		t.Errorf("%d warnings in 15 s, want one for each 10 s:\n%s", n, log.String())
	}
	if n := s.Stats("").AcceptPauses; n != 1000 {
		t.Errorf("%d pauses counted, want 1000", n)
	}
}

// A listener whose service has no connection is told by nobody when descriptors
// are there again, so it must look by itself.
func TestALackOfDescriptorsIsNeverTakenForOneOfPlaces(t *testing.T) {
	s := newStill(t, Options{Files: 5}, 0)
	f := s.front("")
	l := &loop{engine: s.engine, now: time.Now()}
	defer s.Drain(t.Context())
	s.engine.take(4) // by another service
	if l.admit(f.listeners[0], f) || len(l.naps) != 1 {
		t.Errorf("admitted, or %d naps, want 1", len(l.naps))
	}
	s.engine.give(2)
	for want, how := range map[lack]func() func(){
		lackNothing: func() func() { return func() { l.refund(f) } },
		lackFiles:   func() func() { s.engine.take(2); return func() { s.engine.give(2) } },
		lackPlaces:  func() func() { f.pending.Add(1 << 20); return func() { f.pending.Add(-1 << 20) } },
	} {
		undo := how()
		if got := l.reserve(f); got != want {
			t.Errorf("lack %d, want %d", got, want)
		}
		undo()
	}
	s.engine.give(2)
}

// In a process with few descriptors accepting pauses, those who are served are
// served on, and the others when there are descriptors again.
func TestNoDescriptorsLeft(t *testing.T) {
	const child = "PEN_TEST_FEW_FILES"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoDescriptorsLeft$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s := newStand(t, Options{}, backend(t, loopback, echo))
	at := s.Address("")
	var clients []duplex
	for range 8 {
		c := s.dial()
		exchange(t, c, "in")
		clients = append(clients, c)
	}
	// A connection takes four descriptors here, two of the proxy and one each
	// of client and server. The clients have theirs before the limit falls.
	var late []int
	for range 6 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, fd)
	}
	limit := uint64(len(openFiles(t))) // less the one that looked
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit + 100}); err != nil {
		t.Fatal(err)
	}
	for _, fd := range late {
		if err := unix.Connect(fd, socketAddress(listenOn(at).Addr)); err != nil {
			t.Fatal(err)
		}
		unix.Write(fd, []byte("late"))
	}
	eventually2(t, func() bool { return s.Stats("").AcceptPauses > 0 })
	exchange(t, clients[0], "served on")
	restful(t)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit + 100, Max: limit + 100}); err != nil {
		t.Fatal(err)
	}
	for _, fd := range late {
		b := make([]byte, 4)
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "late" {
			t.Errorf("late client read %q, %v", b[:n], err)
		}
		unix.Close(fd)
	}
}

// eventually2 is eventually where no descriptor can be had to look at others.
func eventually2(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 5 s")
		}
	}
}

func TestCloseConnection(t *testing.T) {
	s := newStand(t, Options{Loops: 2}, backend(t, loopback, echo))
	a := s.dial()
	exchange(t, a, "a")
	b := s.dial()
	exchange(t, b, "b")
	conns := s.Connections("")
	if len(conns) != 2 || conns[0].Slot != 0 || conns[1].Slot != 1 || conns[0].State != StateConnected {
		t.Fatalf("connections = %+v", conns)
	}
	if !s.CloseConnection("", 0) {
		t.Error("close 0: no such connection")
	}
	all(t, a)
	exchange(t, b, "b")
	if s.CloseConnection("", 0) || s.CloseConnection("", 499) || s.CloseConnection("nobody", 0) {
		t.Error("closed a connection that is not there")
	}
	if c, ok := s.Connection("", 0); !ok || c.State != 0 || c.DownFD != -1 || c.UpFD != -1 {
		t.Errorf("free slot: %+v, %v", c, ok)
	}
	if _, ok := s.Connection("", 500); ok {
		t.Error("there is a slot 500 of 500")
	}
	b.CloseWrite()
	all(t, b)
}

func TestDrain(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "a")
	at := s.Address("")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Drain(short)
	if short.Err() == nil {
		t.Error("Drain returned though there is a connection")
	}
	exchange(t, c, "goes on")
	if d, err := (&netDialer{}).try(at); err == nil {
		d.Close()
		t.Error("a client got in")
	}
	s.set(state.OptIdle, state.Int(1)) // settings still count
	s.listen(free(t))
	if s.Address("") != "" {
		t.Errorf("listens on %s", s.Address(""))
	}
	eventually(t, "idle connection closed", func() bool { return s.Stats("").Used == 0 })
	done := make(chan struct{})
	go func() { s.Drain(context.Background()); close(done) }()
	c.Close()
	<-done
}

func TestRunEndsEverything(t *testing.T) {
	s := newStand(t, Options{Loops: 2}, backend(t, loopback, echo))
	var clients []duplex
	for range 20 {
		c := s.dial()
		exchange(t, c, "in")
		clients = append(clients, c)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("got %q", b)
		}
	}
	if err := errors.Join(s.Prepare(s.machine.View()), s.Configure(s.machine.View())); err != nil || s.Address("") != "" {
		t.Errorf("a change after the end: %v, listens on %q", err, s.Address(""))
	}
}

// Many clients come and go at once on two loops while somebody asks for figures
// and changes settings all the time.
func TestCommotion(t *testing.T) {
	s := newStand(t, Options{Loops: 2, Log: quiet}, backend(t, loopback, echo), refusing(t), backend(t, loopback, echo))
	stop := make(chan struct{})
	var asking, coming sync.WaitGroup
	asking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			s.Servers("")
			for range s.Clients("") {
			}
			s.Connections("")
			s.Stats("")
			s.CloseConnection("", 400)
			s.set(state.OptIdle, state.Int(i%3*100))
			if i%5 == 0 {
				s.listen([]string{"127.0.0.1:0", "0.0.0.0:0"}[i/5%2])
			}
		}
	})
	for range 8 {
		coming.Go(func() {
			for range 40 {
				at := strings.Replace(s.Address(""), "0.0.0.0", "127.0.0.1", 1)
				c, err := (&netDialer{}).try(at)
				if err != nil {
					continue // the listener has moved
				}
				if _, err := io.WriteString(c, "ping"); err == nil {
					io.ReadFull(c, make([]byte, 4))
				}
				c.Close()
			}
		})
	}
	coming.Wait()
	close(stop)
	asking.Wait()
	eventually(t, "all gone", func() bool { return s.Stats("").Used == 0 && s.Stats("").Files == 0 })
	for i, sv := range s.Servers("") {
		if sv.Conns != 0 {
			t.Errorf("server %d has %d places taken", i, sv.Conns)
		}
	}
}
