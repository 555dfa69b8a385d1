package vip

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The guard is a second process of the same program that outlives the first by
// a moment. It knows what the holder last said and when that ends. When the
// holder dies or stays silent it takes the addresses away.
//
// When the holder has died, and only then, it says so over the connections that
// it was given. A holder that is frozen may wake up and find its lease standing:
// a word given on its behalf would bind nobody.

// guardEnv marks the guard's process; its value is the descriptor of the
// socket to the holder.
const guardEnv = "PEN_VIP_GUARD"

const (
	maxOrder   = 64 << 10
	maxConns   = 64
	maxMessage = 16 << 10

	// lastWords is for how long at most the dead holder's kernel may still tell
	// its clients that their connections are over. Nobody is told where the address
	// is any more, and nothing is accepted.
	lastWords = 500 * time.Millisecond
	// lastWordsBlind is for kernels that do not tell when a process has ended
	// (before Linux 5.3).
	lastWordsBlind = 20 * time.Millisecond
)

// An order is all that the guard has to know. The newest one counts.
type order struct {
	Seq    uint64
	Holder int // its process
	Addrs  []netip.Addr
	Table  string
	// Fence says that the kernel lease is there to be closed.
	Fence bool
	// Deadline is when the addresses go, on the clock that counts through a
	// suspend; 0 while nothing is held.
	Deadline int64
	// Message is what to say when the holder has died; empty: nothing.
	Message []byte
	// Conns says that descriptors come along, in place of the earlier ones.
	Conns bool
}

// A report is the guard's answer to every order.
type report struct {
	Seq   uint64
	Fired uint64 // how often it took the addresses away
	Err   string
}

// bootTime is a clock that also counts while the machine is suspended.
func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("no boot time clock: " + err.Error()) // there since Linux 2.6.39
	}
	return ts.Nano()
}

// IsGuard reports whether this process was started to be the guard. The main
// function asks first of all, and if so ends with the status of RunGuard.
func IsGuard() bool { return os.Getenv(guardEnv) != "" }

// RunGuard is the whole life of the guard. It returns when the holder has ended
// and everything is done that there was to do.
func RunGuard() int {
	fd, err := strconv.Atoi(os.Getenv(guardEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, "the guard of virtual addresses is not a command")
		return 2
	}
	// A socket of another kind is not ours: the variable came from elsewhere.
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		fmt.Fprintln(os.Stderr, "the guard of virtual addresses is not a command")
		return 2
	}
	runtime.LockOSThread()
	steady()
	g := guard{fd: fd, holder: -1}
	g.run()
	return 0
}

// steady makes it likely that the guard runs when the holder does not. All of
// it is best effort: what is not permitted is not had.
func steady() {
	// Those who stop a service stop all its processes. The guard ends when the
	// holder has, not before.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
}

type guard struct {
	fd     int
	holder int // its pidfd; -1: none
	last   order
	conns  []int
	fence  *fence
	fired  uint64
	done   bool // with the deadline of the last order
	err    error
}

func (g *guard) run() {
	for {
		if !g.wait() {
			continue
		}
		// Everything that waits is read before anything is judged: a guard that was
		// stopped for a while must not act on old news. The clock is read before that:
		// an order that was sent in time counts, however long we are kept from running
		// in between.
		now := bootTime()
		for {
			more, alive := g.receive()
			if !alive {
				g.bury()
				return
			}
			if !more {
				break
			}
		}
		if g.overdue(now) {
			g.lapse()
		}
	}
}

// wait returns true when there is something to look at.
func (g *guard) wait() bool {
	timeout := -1
	if g.last.Deadline != 0 && !g.done {
		left := time.Duration(g.last.Deadline - bootTime())
		timeout = int(max(0, (left+time.Millisecond-1)/time.Millisecond))
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, timeout)
	return err == nil
}

func (g *guard) overdue(now int64) bool {
	return g.last.Deadline != 0 && !g.done && now >= g.last.Deadline
}

// receive takes one order. It reports whether there was one, and whether the
// holder is alive.
func (g *guard) receive() (more, alive bool) {
	b, oob := make([]byte, maxOrder), make([]byte, unix.CmsgSpace(4*maxConns))
	n, oobn, _, _, err := unix.Recvmsg(g.fd, b, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return false, true
	}
	if err != nil || n == 0 {
		return false, false
	}
	fds := descriptors(oob[:oobn])
	var o order
	if err := json.Unmarshal(b[:n], &o); err != nil {
		g.err = fmt.Errorf("order of the holder: %w", err)
		closeAll(fds)
		return true, true
	}
	if o.Conns {
		closeAll(g.conns)
		g.conns = fds
	} else {
		closeAll(fds)
	}
	if g.fence == nil {
		g.fence = newFence(o.Table, o.Addrs, 0)
		_ = g.fence.dial() // now, or when it is needed
		if holder, err := unix.PidfdOpen(o.Holder, 0); err == nil {
			g.holder = holder
		}
	}
	g.last, g.done = o, false
	g.answer()
	return true, true
}

func (g *guard) answer() {
	r := report{Seq: g.last.Seq, Fired: g.fired}
	if g.err != nil {
		r.Err = g.err.Error()
	}
	b, err := json.Marshal(r)
	if err != nil {
		return // a report of numbers and text always can be written
	}
	// A holder that does not listen is dead or frozen, and this is how we learn.
	_ = unix.Send(g.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// lapse is for a holder that has not spoken in time: silence, and no word.
func (g *guard) lapse() {
	g.done = true
	g.fired++
	g.err = errors.Join(g.closeFence((*fence).close), g.clear())
	g.answer()
}

// bury is for a holder that has died. Its kernel still has much to tell to its
// clients, so the answers end first, then the word is given, and the rest is
// taken away a moment later.
func (g *guard) bury() {
	if g.last.Deadline == 0 {
		return
	}
	if err := g.closeFence(func(f *fence) error { return f.shutUp(lastWords) }); err != nil || !g.last.Fence {
		// Without a kernel lease nothing but the end of the address ends the answers.
		if g.clear() != nil {
			return
		}
		g.speak()
		return
	}
	g.speak()
	g.mourn()
	// The connections stay until here: an early end of one would be taken for the
	// death of a guard that has said nothing. Errors have no reader any more; the
	// lifetime is left.
	_ = g.clear()
	_ = g.closeFence((*fence).close)
}

// mourn waits until the holder has closed its connections: a process has ended
// when all its threads have, and the last one closes the files. That the guard
// has another parent says less, it is so when one thread has ended.
func (g *guard) mourn() {
	if g.holder < 0 {
		time.Sleep(lastWordsBlind)
		return
	}
	for end := bootTime() + int64(lastWords); ; {
		left := (end - bootTime()) / int64(time.Millisecond)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(g.holder), Events: unix.POLLIN}}, int(max(left, 0)))
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (g *guard) closeFence(how func(*fence) error) error {
	if !g.last.Fence {
		return nil
	}
	if err := how(g.fence); err != nil {
		// Once more by a new connection to the kernel.
		return how(g.fence)
	}
	return nil
}

// clear takes the addresses away. It tries again for as long as they would live.
func (g *guard) clear() error {
	var err error
	for range 3 {
		if _, err = sweep(g.last.Addrs); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func (g *guard) speak() {
	if len(g.last.Message) == 0 {
		return
	}
	for _, fd := range g.conns {
		// What does not fit at once has no reader who could be quick.
		_ = unix.Send(fd, g.last.Message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
}

// descriptors reads those that came with a message.
func descriptors(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err == nil {
			fds = append(fds, some...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
