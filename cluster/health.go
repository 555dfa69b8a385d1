package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// health is what is known of the disk under a node's log and ballot.
//
// Raft must not see a write fail: it dies of a term that can not be kept, and
// forgets what it had cut off when an entry can not be kept. So a write that fails
// is tried again until it works, and to raft a broken disk is a slow one: it stands
// still, and nothing leaves the node that is not kept. That everything is written
// again, and not only synced again, is what makes the next sync mean something.
//
// Heartbeats, the links and the lease go beside raft's main loop and go on.
type health struct {
	dir string
	log *slog.Logger
	// under is the disk itself; tests put faults in its place. Nil: nothing is.
	under func(op, path string, do func() error) error
	// tries: what fails is tried again. Before, while the stores are opened, an
	// error comes out: the node then does not start.
	tries atomic.Bool

	mu    sync.Mutex    // guards what follows
	down  chan struct{} // closed when the node ends
	deeds map[*deed]bool
	good  time.Time // when something was last written
	short error     // why there is no room for the next file of the log
	since time.Time // of short
	seen  time.Time // when somebody last looked; zero: nobody looks regularly
}

// deed is one thing that is being done to the disk.
type deed struct {
	op, path string
	since    time.Time // later than it was by the time in which this process did not run
	err      error     // why it did not work the last time
}

const (
	// diskPatience is how long a write may take, or fail, until this node counts
	// as one without a disk.
	diskPatience = 2 * time.Second
	// diskRetry is between two attempts to write.
	diskRetry = 100 * time.Millisecond
)

func newHealth(dir string, log *slog.Logger) *health {
	return &health{dir: dir, log: log, down: make(chan struct{}), deeds: map[*deed]bool{}, good: time.Now()}
}

// close ends all attempts: their errors come out from now on.
func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.down:
	default:
		close(h.down)
	}
}

// reopen makes close undone, for another life of raft.
func (h *health) reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = make(chan struct{})
}

func (h *health) ending() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

func (h *health) closed() bool {
	select {
	case <-h.ending():
		return true
	default:
		return false
	}
}

// step does something to the disk until it works or the node ends. It is what
// disk.step asks for.
func (h *health) step(op, path string, do func() error) error {
	d := &deed{op: op, path: path, since: time.Now()}
	h.mu.Lock()
	h.deeds[d] = true
	h.mu.Unlock()
	defer h.done(d)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-h.ending():
			return cmp.Or(d.err, os.ErrClosed)
		case <-pause.C:
		}
		if h.closed() {
			return cmp.Or(d.err, os.ErrClosed)
		}
		err := h.try(op, path, do)
		if err == nil {
			h.mu.Lock()
			h.good = time.Now()
			h.mu.Unlock()
			return nil
		}
		if !h.tries.Load() {
			return err
		}
		h.mu.Lock()
		first := d.err == nil
		d.err = err
		h.mu.Unlock()
		if first && !h.closed() {
			h.log.Error("the disk does not take what this node has to keep: it can not vote or lead until it does, and tries again by itself",
				"do", op, "file", path, "err", err, "remedy", remedy(err))
		}
		pause.Reset(diskRetry)
	}
}

func (h *health) try(op, path string, do func() error) error {
	if h.under != nil {
		return h.under(op, path, do)
	}
	return do()
}

func (h *health) done(d *deed) {
	h.mu.Lock()
	h.pass(time.Now())
	delete(h.deeds, d)
	h.mu.Unlock()
	if took := time.Since(d.since); (d.err != nil || took >= diskPatience) && !h.closed() {
		h.log.Info("the disk works again", "do", d.op, "file", d.path, "took", took.Round(time.Millisecond))
	}
}

// diskFault is why a node counts as one without a disk.
type diskFault struct {
	text    string
	blocked bool // raft stands still; otherwise only the next file has no room
}

func (f *diskFault) Error() string { return f.text }

// watch says that from now on somebody looks each diskLook, until unwatch.
func (h *health) watch(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = now
}

func (h *health) unwatch() { h.watch(time.Time{}) }

// pass takes note that it is now. A gap in which nobody has looked is one in which
// this process did not run, as when it or its machine was stopped: that is not the
// disk's time, of which the gap counts as two looks. It is called with mu held.
func (h *health) pass(now time.Time) {
	if h.seen.IsZero() || now.Before(h.seen) {
		return
	}
	later := func(since time.Time) time.Time {
		from := h.seen
		if since.After(from) {
			from = since
		}
		return since.Add(max(0, now.Sub(from)-2*diskLook))
	}
	for d := range h.deeds {
		d.since = later(d.since)
	}
	h.since = later(h.since)
	h.seen = now
}

// fault is what is wrong with the disk, if that has lasted for diskPatience.
func (h *health) fault(now time.Time) *diskFault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pass(now)
	var worst *deed
	for d := range h.deeds {
		if now.Sub(d.since) >= diskPatience && (worst == nil || d.since.Before(worst.since)) {
			worst = d
		}
	}
	switch {
	case worst != nil && worst.err != nil:
		return &diskFault{diskText(worst.op, worst.path, worst.err), true}
	case worst != nil:
		return &diskFault{fmt.Sprintf("disk: a %s takes %d s", worst.op, int(now.Sub(worst.since).Seconds())), true}
	case h.short != nil && now.Sub(h.since) >= diskPatience:
		return &diskFault{h.short.Error(), false}
	}
	return nil
}

// diskText says what is wrong, to people.
func diskText(op, path string, err error) string {
	what := "disk: " + op + " " + path
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		what = "disk full: " + path
	case errors.Is(err, syscall.EROFS):
		what = "disk read-only: " + path
	}
	var path2 *os.PathError
	if errors.As(err, &path2) {
		err = path2.Err // the path is there already
	}
	return what + ": " + err.Error()
}

// remedy is what somebody should do about an error of the disk.
func remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on the file system of data_dir"
	case errors.Is(err, syscall.EROFS):
		return "look for why the file system of data_dir became read-only (dmesg), repair it and mount it writable"
	}
	return "look at the disk of data_dir (dmesg); when it is replaced, start this node with an empty data_dir: it joins as a new one"
}

// refusal adds to an error of the start what to do about it.
func refusal(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %s", err, remedy(err))
	}
	return err
}

// probeName is a small file that is written now and then, so that a node in which
// nothing happens finds out that its disk does not work before it is needed.
const probeName = "probe"

// probe writes if nothing else has been written for so long, and looks for room.
func (h *health) probe(d *disk, path string, idle time.Duration) {
	h.mu.Lock()
	now := time.Now()
	quiet := len(h.deeds) == 0 && now.Sub(h.good) >= idle
	h.mu.Unlock()
	if quiet {
		_ = h.step("sync", path, func() error { return rewrite(d, path) }) // it ends with the node only
	}
	short := h.room()
	h.mu.Lock()
	defer h.mu.Unlock()
	if (short == nil) != (h.short == nil) {
		h.since = now
		if short != nil {
			h.log.Error("the disk is getting full: the address goes to another node", "dir", h.dir, "err", short, "remedy", remedy(syscall.ENOSPC))
		} else {
			h.log.Info("the disk has room again", "dir", h.dir)
		}
	}
	h.short = short
}

// rewrite writes and syncs what is there already, if it is there: that takes no
// room.
func rewrite(d *disk, path string) error {
	f, err := d.open(path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(make([]byte, slotSize), 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// room tells whether the log could grow by a file.
func (h *health) room() error {
	free, ok := freeSpace(h.dir)
	if !ok || free >= segmentBytes {
		return nil
	}
	return fmt.Errorf("disk full: %s: %.1f MiB free, and the log grows by %d MiB", h.dir, float64(free)/(1<<20), segmentBytes>>20)
}
