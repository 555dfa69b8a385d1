package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestHealth: a write that fails is tried until it works; after two seconds the
// node counts as one without a disk, and says why.
func TestHealth(t *testing.T) {
	for _, c := range []struct {
		err     error
		fault   string
		logged  string
		blocked bool
	}{
		{syscall.ENOSPC, "disk full: /d/log: no space left on device", "make room on the file system of data_dir", true},
		{syscall.EROFS, "disk read-only: /d/log: read-only file system", "mount it writable", true},
		{&os.PathError{Op: "write", Path: "/d/log", Err: syscall.EIO}, "disk: write /d/log: input/output error", "look at the disk of data_dir", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			h := newHealth("/d", slog.New(slog.NewTextHandler(&out, nil)))
			h.tries.Store(true)
			tries, end := 0, time.Now().Add(5*time.Second)
			done := make(chan error)
			go func() {
				done <- h.step("write", "/d/log", func() error {
					if tries++; time.Now().Before(end) {
						return c.err
					}
					return nil
				})
			}()
			time.Sleep(1900 * ms)
			if f := h.fault(time.Now()); f != nil {
				t.Errorf("%v: a fault after 1.9 s: %v", c.err, f)
			}
			time.Sleep(200 * ms)
			if f := h.fault(time.Now()); f == nil || f.text != c.fault || !f.blocked {
				t.Errorf("%v: %+v, want %q", c.err, f, c.fault)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if f := h.fault(time.Now()); f != nil || tries < 10 || tries > 60 {
				t.Errorf("%v: after %d tries: %v", c.err, tries, f)
			}
			if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, c.logged) || !strings.Contains(got, "the disk works again") {
				t.Errorf("%v: logged %s", c.err, got)
			}
		})
	}
}

func TestHealthStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("/d", quiet())
		go h.step("sync", "/d/log", func() error { time.Sleep(5 * time.Second); return nil })
		time.Sleep(3100 * ms)
		if f := h.fault(time.Now()); f == nil || f.text != "disk: a sync takes 3 s" {
			t.Errorf("%+v", f)
		}
		time.Sleep(2 * time.Second)
		if f := h.fault(time.Now()); f != nil {
			t.Errorf("it is over: %v", f)
		}
	})
}

// TestHealthOfAStoppedProcess: time in which this process did not run is not the
// disk's. What it does not take afterwards is.
func TestHealthOfAStoppedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("/d", quiet())
		done := make(chan error)
		go func() {
			done <- h.step("sync", "/d/log", func() error { time.Sleep(20 * time.Second); return nil })
		}()
		synctest.Wait()
		h.watch(time.Now())
		time.Sleep(8 * time.Second) // nobody looks
		if f := h.fault(time.Now()); f != nil {
			t.Errorf("at once after 8 s of standing still: %v", f)
		}
		for range 17 {
			time.Sleep(diskLook)
			if f := h.fault(time.Now()); f != nil {
				t.Fatalf("%v before two seconds of running", f)
			}
		}
		time.Sleep(diskLook)
		if f := h.fault(time.Now()); f == nil || f.text != "disk: a sync takes 2 s" {
			t.Errorf("after two seconds of running: %+v", f)
		}
		h.unwatch()
		time.Sleep(5 * time.Second)
		if f := h.fault(time.Now()); f == nil || f.text != "disk: a sync takes 7 s" {
			t.Errorf("unwatched: %+v", f)
		}
		must(t, <-done)
	})
}

// TestHealthEnd: nothing waits for the disk when the node ends.
func TestHealthEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("/d", quiet())
		h.tries.Store(true)
		time.AfterFunc(time.Second, h.close)
		if err := h.step("write", "/d/log", func() error { return syscall.ENOSPC }); !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		if err := h.step("write", "/d/log", func() error { return nil }); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestTermOfTheEnd: raft dies if its term can not be kept, also while it ends.
func TestTermOfTheEnd(t *testing.T) {
	dir := t.TempDir()
	h := newHealth(dir, quiet())
	s, err := openWAL(dir, h, hclog.NewNullLogger())
	must(t, err)
	defer s.Close()
	h.under = func(string, string, func() error) error { return syscall.EIO }
	h.close()
	must(t, s.SetUint64([]byte(keyTerm), 7))
	if s.Set([]byte(keyVoteFor), []byte("a")) == nil {
		t.Error("a vote was given and not kept")
	}
}

// TestLogOnAFullDisk: each step of the log and of the ballot has no room for a
// while. Nothing is lost, and nothing is in the way later.
func TestLogOnAFullDisk(t *testing.T) {
	for _, faults := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, effect := range []bool{false, true} {
			t.Run(fmt.Sprint(faults, effect), func(t *testing.T) {
				dir := t.TempDir()
				h := newHealth(dir, quiet())
				var n atomic.Int64
				s, err := openWAL(dir, h, hclog.NewNullLogger())
				must(t, err)
				h.under = func(_, _ string, do func() error) error {
					if n.Add(1)%2 == 0 {
						return do()
					}
					if effect {
						_ = do()
					}
					return faults
				}
				big := bytes.Repeat([]byte("x"), segmentBytes/3)
				for i := range uint64(5) { // over the end of a file
					l := entry(i+1, 1)
					l.Data = big
					must(t, s.StoreLog(l))
				}
				must(t, s.DeleteRange(4, 5))
				must(t, s.StoreLog(entry(4, 2)))
				must(t, s.SetUint64([]byte(keyTerm), 2))
				must(t, s.SetUint64([]byte(keyVoteTerm), 2))
				must(t, s.Set([]byte(keyVoteFor), []byte("a")))
				must(t, s.Close())
				s, err = openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
				must(t, err)
				defer s.Close()
				last, err := s.LastIndex()
				vote, err2 := s.GetUint64([]byte(keyVoteTerm))
				if last != 4 || vote != 2 || err != nil || err2 != nil {
					t.Errorf("the log ends with %d, the last vote was in %d (%v, %v)", last, vote, err, err2)
				}
				files, err := filepath.Glob(filepath.Join(dir, "*"+temporary))
				if err != nil || len(files) > 0 {
					t.Errorf("left behind: %v (%v)", files, err)
				}
			})
		}
	}
}
