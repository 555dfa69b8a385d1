package vip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// unheard is how long a guard may leave an order without an answer.
	unheard = 2 * time.Second
	// Between starts of a guard that does not live.
	restartMin, restartMax = 50 * time.Millisecond, 5 * time.Second
)

// A guardian is the holder's side of the guard: it keeps one running, and
// tells it what counts.
type guardian struct {
	command func() *exec.Cmd
	log     *slog.Logger
	changed func()       // the guard came or went
	ended   func()       // it ended although nobody wanted it to
	fired   func(report) // the guard acted, or complains

	mu       sync.Mutex
	fd       int // to the guard; -1 while there is none
	seq      uint64
	asked    time.Time  // since when an order has no answer
	answered uint64     // the newest order that has one
	conns    []*os.File // ours; the guard has copies
	stale    bool       // the guard does not have conns yet
	reported report     // the last one
	deadline int64      // of the newest order that was sent
	lapsed   uint64     // the newest order that was sent after the deadline of the one before
	fires    uint64     // how often guards said that they took the addresses away
	timely   uint64     // fires, when nothing was late last
}

// guardCommand is this program again, as it was when it was started: another
// version may have taken its place on the disk.
func guardCommand() *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"pen-guard"}, Stderr: os.Stderr}
}

// run keeps a guard running until ctx ends. Then the guard is told that nothing
// is held, and run waits for its end.
func (g *guardian) run(ctx context.Context) {
	wait := restartMin
	for ctx.Err() == nil {
		began := time.Now()
		err := g.one(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = restartMin
		}
		g.ended()
		g.log.Warn("the guard of the virtual addresses has ended", "err", err, "again", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMax)
	}
}

// one is the life of one guard.
func (g *guardian) one(ctx context.Context) error {
	cmd, fd, err := g.start()
	if err != nil {
		return err
	}
	g.attach(fd)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	heard := make(chan struct{})
	go g.listen(fd, heard)

	watch := time.NewTicker(unheard / 4)
	defer watch.Stop()
	var overdue <-chan time.Time
	for done := ctx.Done(); ; {
		select {
		case err = <-ended:
			g.detach(fd, heard)
			return err
		case <-done:
			// The end of the socket is the guard's end. It has been told that nothing is
			// held, or it does what it is there for.
			done, overdue = nil, time.After(unheard)
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		case <-overdue:
			_ = cmd.Process.Kill()
		case <-watch.C:
			// One that is stopped or stuck is of no use.
			if g.silent() {
				_ = cmd.Process.Kill()
			}
		}
	}
}

func (g *guardian) start() (*exec.Cmd, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socket to the guard: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "guard")
	defer theirs.Close()
	cmd := g.command()
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Environ(), guardEnv+"="+strconv.Itoa(3))
	// A session of its own: what a terminal sends to the holder is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() != 0 {
		// A user who was left with a few capabilities passes them on only so.
		cmd.SysProcAttr.AmbientCaps = heldCapabilities(unix.CAP_NET_ADMIN, unix.CAP_IPC_LOCK, unix.CAP_SYS_NICE)
	}
	if err := cmd.Start(); err != nil {
		unix.Close(pair[0])
		return nil, -1, fmt.Errorf("start the guard: %w", err)
	}
	return cmd, pair[0], nil
}

func (g *guardian) attach(fd int) {
	g.mu.Lock()
	g.fd, g.stale, g.answered, g.asked = fd, true, g.seq, time.Now()
	g.reported = report{}
	g.mu.Unlock()
	g.changed()
}

// detach waits for the listener before the number of the descriptor can mean
// something else.
func (g *guardian) detach(fd int, heard <-chan struct{}) {
	g.mu.Lock()
	g.fd = -1
	g.mu.Unlock()
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	<-heard
	unix.Close(fd)
	g.changed()
}

// listen reads the guard's reports until the end of the socket.
func (g *guardian) listen(fd int, heard chan<- struct{}) {
	defer close(heard)
	b := make([]byte, 4<<10)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return
		}
		var r report
		if json.Unmarshal(b[:n], &r) == nil {
			g.hear(r)
		}
	}
}

func (g *guardian) hear(r report) {
	g.mu.Lock()
	first := g.reported.Seq == 0
	fired := r.Fired != g.reported.Fired
	news := fired || r.Err != g.reported.Err
	if fired {
		g.fires++
	}
	g.reported, g.answered = r, r.Seq
	if g.answered == g.seq {
		g.asked = time.Time{}
	} else {
		g.asked = time.Now()
	}
	if !g.late() {
		g.timely = g.fires
	}
	g.mu.Unlock()
	if news {
		g.fired(r)
	}
	if first {
		g.changed()
	}
}

// taken counts how often the addresses were taken away because this process was
// silent, and this time, too, if that can be so: the deadline has passed, and the
// guard has not answered an order that came after it. The kernel may tell of it
// before the guard does.
func (g *guardian) taken() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.late() {
		return max(g.fires, g.timely+1)
	}
	return g.fires
}

// late tells whether the guard may have acted, or may be about to, and has not said
// yet whether it did. It is called with mu held.
func (g *guardian) late() bool { return g.overdue() || g.lapsed > g.answered }

func (g *guardian) overdue() bool { return g.deadline != 0 && bootTime() >= g.deadline }

// silent reports a guard that has let an order wait for too long.
func (g *guardian) silent() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.asked.IsZero() && time.Since(g.asked) > unheard
}

// stands reports whether there is a guard that has answered lately.
func (g *guardian) stands() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fd >= 0 && g.reported.Seq != 0 && (g.asked.IsZero() || time.Since(g.asked) < unheard)
}

// tell gives the guard its order, without ever waiting for it.
func (g *guardian) tell(o order) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd < 0 {
		return
	}
	g.seq++
	o.Seq, o.Conns = g.seq, g.stale
	if g.asked.IsZero() {
		g.asked = time.Now()
	}
	var rights []byte
	if g.stale && len(g.conns) > 0 {
		rights = unix.UnixRights(numbers(g.conns)...)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return // numbers, addresses and bytes always can be written
	}
	// A guard that does not read is found by silent.
	if unix.Sendmsg(g.fd, b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) != nil {
		return
	}
	g.stale = false
	if g.overdue() {
		g.lapsed = g.seq
	}
	g.deadline = o.Deadline
}

// numbers gives the descriptors. File.Fd would make them blocking, and with
// them the caller's own connections, which are the same to the kernel.
func numbers(files []*os.File) []int {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
	}
	return fds
}

// hand replaces the connections. They are the guardian's from now on.
func (g *guardian) hand(conns []*os.File) {
	g.mu.Lock()
	old := g.conns
	g.conns, g.stale = slices.Clone(conns[:min(len(conns), maxConns)]), true
	g.mu.Unlock()
	for _, c := range append(old, conns[min(len(conns), maxConns):]...) {
		c.Close()
	}
}
