package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pen/state"
)

func TestBytesGoBothWays(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	c := s.dial()
	for range 3 {
		exchange(t, c, "hello")
	}
	c.CloseWrite()
	if got := all(t, c); got != "" {
		t.Errorf("rest = %q, want nothing", got)
	}
}

func TestServerMaySpeakFirst(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, name("welcome")))
	if got := all(t, s.dial()); got != "welcome" {
		t.Errorf("got %q", got)
	}
}

// random fills n bytes that no two offsets share.
func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(b)
	return b
}

func TestManyBytesArriveWhole(t *testing.T) {
	for _, loops := range []int{1, 2} {
		s := newStand(t, Options{Loops: loops}, backend(t, loopback, echo))
		want := random(8 << 20)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c := s.dial()
				go func() {
					c.Write(want)
					c.CloseWrite()
				}()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes, %v; sum %x, want %x", len(got), err, sha256.Sum256(got), sha256.Sum256(want))
				}
			})
		}
		wg.Wait()
	}
}

func TestHalfCloseIsPassedOn(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
			got, _ := io.ReadAll(c)
			time.Sleep(50 * time.Millisecond) // the answer comes late
			c.Write(append([]byte("got "), got...))
		}))
		c := s.dial()
		io.WriteString(c, "question")
		c.CloseWrite()
		if got := all(t, c); got != "got question" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("by the server", func(t *testing.T) {
		heard := make(chan string, 1)
		s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
			io.WriteString(c, "bye")
			c.CloseWrite()
			b, _ := io.ReadAll(c)
			heard <- string(b)
		}))
		c := s.dial()
		if got := all(t, c); got != "bye" {
			t.Errorf("got %q", got)
		}
		io.WriteString(c, "one more thing")
		c.Close()
		if got := <-heard; got != "one more thing" {
			t.Errorf("server heard %q", got)
		}
	})
}

// A peer that does not read costs one buffer or one pipe for each way, and its
// writer soon blocks. When it reads on, all arrives.
func TestSlowReaderHoldsOneBuffer(t *testing.T) {
	want := random(16 << 20)
	for _, way := range []string{"to the client", "to the server"} {
		t.Run(way, func(t *testing.T) {
			read := make(chan struct{})
			sum := make(chan [32]byte, 1)
			slow := func(c duplex) {
				c.SetReadBuffer(32 << 10)
				<-read
				b, _ := io.ReadAll(c)
				sum <- sha256.Sum256(b)
			}
			fast := func(c duplex) {
				c.Write(want)
				c.CloseWrite()
				io.Copy(io.Discard, c)
			}
			server, client := fast, slow
			if way == "to the server" {
				server, client = slow, fast
			}
			s := newStand(t, Options{}, backend(t, loopback, server))
			c := s.dial()
			done := make(chan struct{})
			go func() { client(c); c.Close(); close(done) }()
			pending := func() int {
				conn, _ := s.Connection("", 0)
				return conn.PendingDown + conn.PendingUp
			}
			// The kernel's buffers grow for a while.
			eventually(t, "the writer is held up", func() bool {
				before := s.Servers("")[0]
				time.Sleep(50 * time.Millisecond)
				return pending() > 0 && before == s.Servers("")[0]
			})
			if got := s.Servers("")[0]; got.Sent+got.Received >= uint64(len(want)) {
				t.Errorf("all was read: %+v", got)
			}
			if got := pending(); got > pipeSize {
				t.Errorf("%d bytes held, want at most %d", got, pipeSize)
			}
			if st := s.Stats(""); st.Buffers+st.Pipes != 1 {
				t.Errorf("%d buffers and %d pipes in use, want one", st.Buffers, st.Pipes)
			}
			close(read)
			if got := <-sum; got != sha256.Sum256(want) {
				t.Error("what arrived is not what was sent")
			}
			<-done
			eventually(t, "buffer given back", func() bool { st := s.Stats(""); return st.Buffers+st.Pipes == 0 })
		})
	}
}

// resetter makes the close of c a reset.
func resetter(t testing.TB, c duplex) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		heard := make(chan error, 1)
		s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
			exchange(t, c, "hi")
			_, err := io.ReadAll(c)
			heard <- err
		}))
		c := s.dial()
		b := make([]byte, 2)
		io.ReadFull(c, b)
		c.Write(b)
		resetter(t, c)
		c.Close()
		if err := <-heard; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("server read: %v, want a reset", err)
		}
	})
	t.Run("by the server", func(t *testing.T) {
		s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
			io.ReadFull(c, make([]byte, 2))
			io.WriteString(c, "partial")
			resetter(t, c)
		}))
		c := s.dial()
		io.WriteString(c, "go")
		got, err := io.ReadAll(c)
		if string(got) != "partial" && len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, %v; want a reset", got, err)
		}
	})
	t.Run("after a half-close", func(t *testing.T) {
		heard := make(chan error, 1)
		s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
			io.ReadAll(c)
			for {
				if _, err := c.Write([]byte("tick")); err != nil {
					heard <- err
					return
				}
				time.Sleep(time.Millisecond)
			}
		}))
		c := s.dial()
		c.CloseWrite()
		io.ReadFull(c, make([]byte, 8))
		resetter(t, c)
		c.Close()
		if err := <-heard; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("server wrote: %v, want a reset", err)
		}
	})
}

// What a server said before it broke off is delivered, though the client is slow.
func TestBytesBeforeAResetAreDelivered(t *testing.T) {
	want := random(3 << 20)
	broke := make(chan struct{})
	s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
		c.Write(want)
		for unsentOf(t, c) > 0 {
			time.Sleep(time.Millisecond)
		}
		resetter(t, c)
		c.Close()
		close(broke)
	}))
	c := s.dial()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got[:len(want)-(1<<20)]); err != nil {
		t.Fatal(err)
	}
	<-broke
	time.Sleep(20 * time.Millisecond)
	if _, err := io.ReadFull(c, got[len(want)-(1<<20):]); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("rest: %v", err)
	}
	if n, err := c.Read(got); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("then %d bytes, %v; want a reset", n, err)
	}
}

// unsentOf returns how much of what was written to c has not arrived.
func unsentOf(t testing.TB, c duplex) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return 0
	}
	raw.Control(func(fd uintptr) { n = unsent(int32(fd)) })
	return n
}

// Reading stops at urgent data. What comes behind it must not wait for more.
func TestUrgentDataDoesNotHoldUpTheRest(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "before")
	raw, _ := c.SyscallConn()
	raw.Control(func(fd uintptr) {
		syscall.Sendto(int(fd), []byte("ab!"), syscall.MSG_OOB, nil)
		syscall.Sendto(int(fd), []byte("cd"), 0, nil)
	})
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "abcd" {
		t.Errorf("got %q, %v; want abcd", got, err)
	}
	exchange(t, c, "after")
}

func TestFastclose(t *testing.T) {
	closing := func(c duplex) { // ends its half and waits for the other
		io.WriteString(c, "last words")
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
	for _, tc := range []struct {
		name   string
		set    state.Fastclose
		server bool // the server closes, else the client
		fast   bool
	}{
		{"off, server", state.FastcloseOff, true, false},
		{"up, server", state.FastcloseUp, true, true},
		{"down, server", state.FastcloseDown, true, false},
		{"both, server", state.FastcloseBoth, true, true},
		{"off, client", state.FastcloseOff, false, false},
		{"up, client", state.FastcloseUp, false, false},
		{"down, client", state.FastcloseDown, false, true},
		{"both, client", state.FastcloseBoth, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ended := make(chan string, 1)
			serve := closing
			if !tc.server {
				serve = func(c duplex) {
					io.WriteString(c, "x") // never ends by itself
					b := make([]byte, 64)
					n, _ := io.ReadFull(c, b[:10])
					ended <- string(b[:n])
					for {
						if _, err := c.Write([]byte("x")); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}
			}
			s := newStand(t, Options{}, backend(t, loopback, serve))
			s.set(state.OptFastclose, state.Int(int(tc.set)))
			c := s.dial()
			if tc.server {
				if got := all(t, c); got != "last words" {
					t.Errorf("got %q", got)
				}
			} else {
				io.ReadFull(c, make([]byte, 1))
				io.WriteString(c, "last words")
				c.CloseWrite()
				if got := <-ended; got != "last words" {
					t.Errorf("server got %q", got)
				}
			}
			if !tc.fast {
				time.Sleep(30 * time.Millisecond)
				if n := len(s.Connections("")); n != 1 {
					t.Errorf("%d connections, want it to stand", n)
				}
				return
			}
			eventually(t, "closed", func() bool { return len(s.Connections("")) == 0 })
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	quiet, busy := s.dial(), s.dial()
	exchange(t, quiet, "a")
	exchange(t, busy, "a")
	s.set(state.OptIdle, state.Int(1)) // also for those that stand
	begun := time.Now()
	stop := time.AfterFunc(1700*time.Millisecond, func() { busy.CloseWrite() })
	defer stop.Stop()
	go func() {
		for time.Since(begun) < 1600*time.Millisecond {
			if _, err := busy.Write([]byte("b")); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	if got := all(t, quiet); got != "" {
		t.Errorf("got %q", got)
	}
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("closed after %v, want 1 s at least", took)
	}
	if got := all(t, busy); len(got) < 20 {
		t.Errorf("the busy one got only %d bytes", len(got))
	}
}

func TestIdleTimeoutOfHalfClosed(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
		io.Copy(io.Discard, c) // to the end of the client's stream, and then nothing
		<-t.Context().Done()
	}))
	s.set(state.OptIdle, state.Int(1))
	c := s.dial()
	c.Write([]byte("a"))
	c.CloseWrite()
	if got := all(t, c); got != "" {
		t.Errorf("got %q", got)
	}
	eventually(t, "closed", func() bool { return len(s.Connections("")) == 0 })
}

func TestCountersAreExact(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
		io.ReadFull(c, make([]byte, 1000))
		c.Write(make([]byte, 3000))
		io.Copy(io.Discard, c)
	}))
	c := s.dial()
	c.Write(make([]byte, 1000))
	io.ReadFull(c, make([]byte, 3000))
	if got := s.Servers("")[0]; got.Sent != 1000 || got.Received != 3000 || got.Conns != 1 {
		t.Errorf("while it stands: %+v", got)
	}
	c.Write(make([]byte, 17))
	c.Close()
	eventually(t, "closed", func() bool { return s.Servers("")[0].Conns == 0 })
	if got := s.Servers("")[0]; got.Sent != 1017 || got.Received != 3000 || got.Attempts != 1 || got.Failures != 0 {
		t.Errorf("at the end: %+v", got)
	}
	clients := slices.Collect(s.Clients(""))
	if len(clients) != 1 || clients[0].Sent != 3000 || clients[0].Received != 1017 || clients[0].Connects != 1 {
		t.Errorf("clients: %+v", clients)
	}
	if got := s.Stats(""); got.Accepted != 1 || got.Used != 0 {
		t.Errorf("service: %+v", got)
	}
}

// An event that was under way when its descriptor was closed must not be taken
// for one of the descriptor's successor in the same place.
func TestOldEventsAreKnownAsSuch(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "a")
	type old struct {
		place int32
		gen   [2]uint32
	}
	seen := everywhere(s.engine, func(l *loop) (o old) {
		l.conns.all(func(c *conn) { o = old{c.place, [2]uint32{c.half[0].gen, c.half[1].gen}} })
		return o
	})[0]
	c.Close()
	eventually(t, "closed", func() bool { return len(s.Connections("")) == 0 })
	next := s.dial()
	exchange(t, next, "b")
	everywhere(s.engine, func(l *loop) bool {
		if n := l.conns.at(seen.place); n.phase != phaseOpen || n.half[0].gen == seen.gen[0] || n.half[1].gen == seen.gen[1] {
			t.Errorf("place %d: phase %d, generations %d and %d: not taken anew", seen.place, n.phase, n.half[0].gen, n.half[1].gen)
		}
		for side, gen := range seen.gen {
			ev := l.event
			ev.Events, ev.Fd, ev.Pad = 0x18 /* ERR, HUP */, seen.place<<1|int32(side), int32(gen)
			l.dispatch(&ev)
		}
		return true
	})
	exchange(t, next, "still there")
}

// Traffic leaves nothing to the collector.
func TestRelayAllocatesNothing(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	c := s.dial()
	word, got := []byte("hello"), make([]byte, 5)
	trip := func() {
		c.Write(word)
		io.ReadFull(c, got)
	}
	trip()
	trip()
	time.Sleep(50 * time.Millisecond) // what the first visit has caused is done
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const trips = 2000
	for range trips {
		trip()
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > trips/10 {
		t.Errorf("%d allocations in %d round trips", n, trips)
	}
}
