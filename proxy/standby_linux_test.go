package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unanswered fails the test if a connect gets any answer: a handshake or a refusal.
func unanswered(t testing.TB, at string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", at, 150*time.Millisecond)
	if err == nil {
		c.Close()
		t.Errorf("connected to %s", at)
		return
	}
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("connect to %s: %v, want no answer", at, err)
	}
}

// cut fails the test unless the stream ends with a reset, whatever comes before.
func cut(t testing.TB, who string, c io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%s got %v, want a reset", who, err)
	}
}

// spotless fails the test if something is still counted as in use.
func (s *stand) spotless() {
	s.t.Helper()
	st, f := s.Stats(""), s.front("")
	if st.Used != 0 || f.places.Load() != 0 || f.pending.Load() != 0 || f.leaving.Load() != 0 || s.engine.conns.Load() != 0 {
		s.t.Errorf("slots %d, places %d, attempts %d, leavers %d, connections %d, want none",
			st.Used, f.places.Load(), f.pending.Load(), f.leaving.Load(), s.engine.conns.Load())
	}
	if st.Pipes != 0 || st.Buffers != 0 {
		s.t.Errorf("%d pipes and %d buffers in use, want none", st.Pipes, st.Buffers)
	}
	for i, sv := range s.Servers("") {
		if sv.Conns != 0 {
			s.t.Errorf("server %d has %d places taken", i, sv.Conns)
		}
	}
	if n := len(s.Connections("")); n != 0 {
		s.t.Errorf("%d connections are listed", n)
	}
}

func TestWhoStandsByDoesNotAnswer(t *testing.T) {
	s := newStill(t, Options{Loops: 2, Standby: true}, 0, backend(t, loopback, echo))
	unanswered(t, s.Address("")) // before Run
	s.start()
	s.listen(free(t)) // opened meanwhile
	unanswered(t, s.Address(""))
	if n := s.Stats("").Accepted; n != 0 {
		t.Errorf("%d clients were accepted", n)
	}
	s.Serve()
	exchange(t, s.dial(), "now")
	s.listen(free(t))
	exchange(t, s.dial(), "as ever")
	s.Standby()
	unanswered(t, s.Address(""))
}

// Who tries to connect before his node serves is served without trying anew.
func TestWhoCameBeforeServeIsServed(t *testing.T) {
	s := newStand(t, Options{Standby: true}, backend(t, loopback, echo))
	came := make(chan duplex)
	go func() {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", s.Address(""))
		if err != nil {
			close(came)
			return
		}
		came <- c.(duplex)
	}()
	time.Sleep(50 * time.Millisecond) // for the first packet, which is lost
	s.Serve()
	c, ok := <-came
	if !ok {
		t.Fatal("was not served")
	}
	defer c.Close()
	exchange(t, c, "patient")
}

// Whatever state a connection is in, both sides learn that it is over.
func TestStandbyResetsBothSides(t *testing.T) {
	for _, loops := range []int{1, 2} {
		served := make(chan duplex, 10)
		release := make(chan struct{})
		at := backend(t, loopback, func(c duplex) { served <- c; <-release })
		defer close(release)
		s := newStand(t, Options{Loops: loops}, at)
		pair := func() (client, server duplex) {
			client = s.dial()
			return client, <-served
		}
		idle, idleServer := pair()
		ended, endedServer := pair() // the client has said all
		ended.CloseWrite()
		if got := all(t, endedServer); got != "" {
			t.Errorf("got %q", got)
		}
		quiet, quietServer := pair() // the server has said all
		quietServer.CloseWrite()
		if got := all(t, quiet); got != "" {
			t.Errorf("got %q", got)
		}
		slow, slowServer := pair() // takes nothing of what is sent to it
		slow.SetReadBuffer(4 << 10)
		var sending sync.WaitGroup
		sending.Go(func() {
			for err := error(nil); err == nil; {
				_, err = slowServer.Write(make([]byte, 1<<20))
			}
		})
		eventually(t, "bytes are stuck", func() bool { st := s.Stats(""); return st.Pipes+st.Buffers > 0 })

		s.Standby()
		s.spotless()
		if n := s.Stats("").Reset; n != 4 {
			t.Errorf("%d resets are counted, want 4", n)
		}
		sending.Wait()
		for who, c := range map[string]duplex{
			"an idle client": idle, "its server": idleServer,
			"a client that had ended": ended,
			"a client that is slow":   slow,
		} {
			cut(t, who, c)
		}
		for who, c := range map[string]duplex{"the server of a client that had ended": endedServer, "the client of a server that had ended": quiet, "the server that had ended": quietServer} {
			eventually(t, who+" can not write", func() bool { _, err := c.Write([]byte("x")); return err != nil })
		}
		unanswered(t, s.Address(""))

		s.Serve()
		client, server := pair()
		io.WriteString(server, "again")
		gets(t, client, "again")
	}
}

func TestStandbyEndsConnectsUnderWay(t *testing.T) {
	s := newStand(t, Options{}, silent(t))
	c := s.dial()
	io.WriteString(c, "early")
	eventually(t, "connecting", func() bool { return len(s.Connections("")) == 1 })
	s.Standby()
	cut(t, "the client", c)
	s.spotless()
	if st := s.Servers("")[0]; st.Failures != 0 || st.Mark != 0 {
		t.Errorf("the server is blamed: %+v", st)
	}
}

// Those who wait for a place are no less reset: at the listener, at one that has
// moved, and before anything runs.
func TestStandbyResetsWhoWaits(t *testing.T) {
	s := newSmall(t, Options{Loops: 2}, 1, backend(t, loopback, echo))
	in := s.dial()
	exchange(t, in, "in")
	waiting := []duplex{s.dial(), s.dial()}
	s.listen(free(t))
	eventually(t, "the listener stays", func() bool { return s.front("").leaving.Load() == 1 })
	waiting = append(waiting, s.dial(), s.dial(), in)
	s.Standby()
	for _, c := range waiting {
		cut(t, "who waited", c)
	}
	if n := s.Stats("").Reset; n != 5 {
		t.Errorf("%d resets are counted, want 5", n)
	}
	s.spotless()
	s.Serve()
	for range 3 {
		c := s.dial()
		exchange(t, c, "after")
		c.Close()
	}

	early := newStill(t, Options{}, 0, backend(t, loopback, echo))
	c := early.dial()
	early.Standby()
	cut(t, "who came early", c)
	early.start()
	unanswered(t, early.Address(""))
	early.Serve()
	exchange(t, early.dial(), "served")
}

func TestUnixClientsAreTurnedAwayInStandby(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	s.listen(filepath.Join(t.TempDir(), "front"))
	c := s.dial()
	exchange(t, c, "in")
	s.Standby()
	for _, c := range []duplex{c, s.dial()} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read = %d, %v, want the end", n, err)
		}
	}
	s.spotless()
	s.Serve()
	exchange(t, s.dial(), "again")
}

// Under load each exchange is whole, or the client is told that it is not.
func TestStandbyAndServeByTurns(t *testing.T) {
	s := newStand(t, Options{Loops: 2}, backend(t, loopback, echo), backend(t, loopback, echo))
	at := s.Address("")
	var wg sync.WaitGroup
	var whole, told atomic.Int64
	stop := make(chan struct{})
	word := strings.Repeat("word", 5000)
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.DialTimeout("tcp", at, 50*time.Millisecond)
				if err != nil {
					continue // not answered
				}
				c.SetDeadline(time.Now().Add(5 * time.Second))
				wrote := make(chan error, 1)
				go func() {
					_, err := io.WriteString(c, word)
					c.(duplex).CloseWrite()
					wrote <- err
				}()
				got, err := io.ReadAll(c)
				if err == nil { // the kernel tells of a reset once, to whoever asks first
					err = <-wrote
				}
				switch {
				case err == nil && string(got) == word:
					whole.Add(1)
				case errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE):
					told.Add(1)
				default:
					t.Errorf("%d bytes and %v", len(got), err)
				}
				c.Close()
			}
		})
	}
	for range 25 {
		time.Sleep(20 * time.Millisecond)
		s.Standby()
		s.spotless()
		s.Serve()
	}
	before := whole.Load()
	eventually(t, "served after the last turn", func() bool { return whole.Load() > before+10 })
	close(stop)
	wg.Wait()
	s.Standby()
	s.spotless()
	if st := s.Stats(""); st.Refused["no_server"] > 0 || t.Failed() {
		t.Errorf("refused %v, servers %+v", st.Refused, s.Servers(""))
	}
	if n := s.Stats("").Reset; told.Load() > int64(n) || whole.Load() == 0 {
		t.Errorf("%d clients were reset, %d resets are counted; %d were served", told.Load(), n, whole.Load())
	}
}

// Every method may be called at any moment.
func TestStandbyAtAnyMoment(t *testing.T) {
	s := newStill(t, Options{Loops: 2, Standby: true}, 0, backend(t, loopback, echo))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	often := func(do func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	often(s.Serve)
	often(func() { s.Standby(); s.Standby() })
	often(func() {
		if c, err := net.DialTimeout("tcp", s.Address(""), 5*time.Millisecond); err == nil {
			c.Close()
		}
	})
	for range 3 {
		s.listen(free(t))
	}
	s.start()
	for range 10 {
		s.listen(free(t))
	}
	done := make(chan struct{})
	go func() { s.Drain(context.Background()); close(done) }()
	s.Serve()
	s.Standby()
	s.stop()
	<-done
	s.Serve()
	s.Standby()
	close(stop)
	wg.Wait()
	if n := s.engine.conns.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
