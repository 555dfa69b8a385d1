//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// answers is a row of questions that the same nodes have answered.
type answers struct {
	from, to  time.Duration // when the first and the last were asked
	nodes     uint8         // a bit for each node
	questions int
}

func (a answers) several() bool { return bits.OnesCount8(a.nodes) > 1 }

// Announcement is a broadcast after which others believe that a node has the
// virtual address: a gratuitous ARP, or a question for a neighbour in the name of
// the address.
type Announcement struct {
	At       time.Time
	Node     string
	Question bool
}

// asked is how many questions can wait for answers. Each comes from an address
// of its own, which the answer repeats: so it is known which question was meant,
// and an answer that is late is not taken for one to a later question.
const asked = 32

// asker asks in ARP who has the virtual address, and hears what is announced.
type asker struct {
	w     *Watch
	fd    int
	timer int
	mac   [6]byte
	nodes map[[6]byte]int
	count int             // of questions
	ring  [asked]question // the newest
}

type question struct {
	at    time.Duration
	nodes uint8
}

func newAsker(w *Watch) (*asker, error) {
	a := &asker{w: w, fd: -1, timer: -1, mac: [6]byte(hardware(0, askerHost)), nodes: map[[6]byte]int{}}
	for i, n := range w.lab.Nodes {
		a.nodes[[6]byte(n.mac())] = i
	}
	if err := w.lab.observer.do(a.open); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *asker) open() (err error) {
	if a.timer, err = ticker(askEvery); err != nil {
		return err
	}
	proto := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)
	if a.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16(proto))); err != nil {
		return err
	}
	index, err := linkIndex(a.fd, "eth0")
	if err != nil {
		return err
	}
	return unix.Bind(a.fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(proto), Ifindex: index})
}

func linkIndex(fd int, link string) (int, error) {
	ask, err := unix.NewIfreq(link)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ask); err != nil {
		return 0, fmt.Errorf("find %s: %w", link, err)
	}
	return int(ask.Uint32()), nil
}

func (a *asker) close() {
	unix.Close(a.fd)
	unix.Close(a.timer)
}

func (a *asker) run() {
	defer a.close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fds := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}, {Fd: int32(a.timer), Events: unix.POLLIN}}
	for !a.w.stopped() {
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			a.w.fail("observer", err)
			return
		}
		// What has come is heard before the oldest question is closed.
		a.hear()
		if n := ticks(a.timer); n > 0 {
			a.w.late(time.Duration(n-1) * askEvery)
			a.ask()
		}
	}
}

func (a *asker) ask() {
	slot := &a.ring[a.count%asked]
	if a.count >= asked {
		a.w.conclude(*slot)
	}
	*slot = question{at: a.w.now()}
	_, _ = unix.Write(a.fd, a.frame(a.count%asked)) // one that is lost is not answered
	a.count++
}

// The bytes of ARP over Ethernet (RFC 826).
const (
	frameSize  = 42
	arpRequest = 1
	arpReply   = 2
)

// frame is a question from one of our addresses.
func (a *asker) frame(slot int) []byte {
	b := make([]byte, 0, frameSize)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, a.mac[:]...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, arpRequest)
	b = append(b, a.mac[:]...)
	b = append(b, host(front, askerHost+slot).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, VIP.AsSlice()...)
}

func (a *asker) hear() {
	var b [128]byte
	for {
		n, err := unix.Read(a.fd, b[:])
		if err != nil {
			return // nothing more
		}
		if n < frameSize {
			continue
		}
		sender, target := netip.AddrFrom4([4]byte(b[28:32])), netip.AddrFrom4([4]byte(b[38:42]))
		node, known := a.nodes[[6]byte(b[22:28])]
		switch {
		case target == VIP && sender == host(front, routerHost):
			a.w.soughtNow()
		case sender != VIP || !known:
		case b[21] == arpReply && target != VIP:
			a.answer(node, target)
		default:
			a.w.announced(Announcement{time.Now(), a.w.lab.Nodes[node].Name, target != VIP})
		}
	}
}

func (a *asker) answer(node int, to netip.Addr) {
	slot := int(to.As4()[3]) - askerHost
	if slot >= 0 && slot < asked {
		a.ring[slot].nodes |= 1 << node
	}
}

// conclude puts a question to the others like it.
func (w *Watch) conclude(q question) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = appendAnswer(w.answers, q)
	if len(w.answers) > maxAnswers {
		w.answers = w.answers[:maxAnswers]
		w.lost++
	}
}

func appendAnswer(all []answers, q question) []answers {
	if n := len(all); n > 0 && all[n-1].nodes == q.nodes {
		all[n-1].to = q.at
		all[n-1].questions++
		return all
	}
	return append(all, answers{from: q.at, to: q.at, nodes: q.nodes, questions: 1})
}

func (w *Watch) announced(a Announcement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.spoken) == maxSpoken {
		w.lost++
		return
	}
	w.spoken = append(w.spoken, a)
}

// soughtNow notes that the clients' router has forgotten who has the address.
func (w *Watch) soughtNow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sought) < maxSpoken {
		w.sought = append(w.sought, w.now())
	}
}
