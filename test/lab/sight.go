//go:build linux

package lab

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sight is what the observers saw in a while, as it was and without a judgement.
type Sight struct {
	Visits  []Visit  // in the order of their ends
	Answers []Answer // in the order of time; what nobody answered is among them
	Stalls  []Stall
	// Err says that an observer gave up or had no room left. The rest is then not
	// to be trusted.
	Err error
}

// Visit is a client's request that was answered.
type Visit struct {
	Client       int
	Server, Node string
	Began, Ended time.Time
}

// Answer is a row of questions after the virtual address that the same nodes have
// answered; more than one node in it answered the very same question.
type Answer struct {
	Nodes     []string
	From, To  time.Time // when the first and the last question was asked
	Questions int
}

// Stall is a while before a moment in which an observer did not run.
type Stall struct {
	At time.Time
	By time.Duration
}

// lagging is how long it takes until a question is closed.
const lagging = asked*askEvery + 10*time.Millisecond

// Sight tells what was seen after one moment and until another, which it waits for.
// Requests count when they end, so that Sights that follow each other have each
// once. Rows of answers are cut at the ends.
func (w *Watch) Sight(from, to time.Time) Sight {
	select {
	case <-time.After(time.Until(to) + lagging):
	case <-w.stop:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := window{from.Sub(w.began), to.Sub(w.began)}
	s := Sight{Err: w.trouble()}
	for i := len(w.probes) - 1; i >= 0 && w.probes[i].end > t.from; i-- {
		if p := w.probes[i]; p.outcome == answered && p.end <= t.to && p.server >= 0 {
			s.Visits = append(s.Visits, Visit{int(p.client), w.lab.Servers[p.server].Name, w.lab.nodeName(int(p.node)), w.began.Add(p.start), w.began.Add(p.end)})
		}
	}
	for i := len(w.answers) - 1; i >= 0 && w.answers[i].to >= t.from; i-- {
		if a := w.answers[i]; a.from <= t.to {
			s.Answers = append(s.Answers, Answer{a.names(w.lab.nodeName), w.began.Add(max(a.from, t.from)), w.began.Add(min(a.to, t.to)), a.questions})
		}
	}
	for i := len(w.lateness) - 1; i >= 0 && w.lateness[i].at >= t.from; i-- {
		if l := w.lateness[i]; l.at-l.by <= t.to {
			s.Stalls = append(s.Stalls, Stall{w.began.Add(l.at), l.by})
		}
	}
	slices.Reverse(s.Visits)
	slices.Reverse(s.Answers)
	slices.Reverse(s.Stalls)
	return s
}

// Cut is a direction in which nothing passes.
type Cut struct{ From, To Side }

// Cuts makes these the only places where nothing passes, all at one moment.
func (l *Lab) Cuts(cuts []Cut) error {
	var all []string
	for _, c := range cuts {
		all = append(all, pairs(c.From, c.To)...)
	}
	slices.Sort(all)
	lines := "flush set bridge lab cut\n"
	if all = slices.Compact(all); len(all) > 0 {
		lines += "add element bridge lab cut { " + strings.Join(all, ", ") + " }"
	}
	return l.nft(lines)
}

// Claim says in gratuitous ARP that a machine which is none of the nodes has the
// virtual address. That machine answers nothing.
func (l *Lab) Claim() error {
	return l.observer.do(func() error {
		proto := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)
		kind := int(binary.NativeEndian.Uint16(proto))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, kind)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		index, err := linkIndex(fd, "eth0")
		if err != nil {
			return err
		}
		return unix.Sendto(fd, foreignClaim(hardware(0, foreignHost)), 0, &unix.SockaddrLinklayer{Protocol: uint16(kind), Ifindex: index})
	})
}

// foreignHost is the number of the machine that claims the address.
const foreignHost = 99

func foreignClaim(mac net.HardwareAddr) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(b, mac...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, arpReply)
	b = append(b, mac...)
	b = append(b, VIP.AsSlice()...)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	return append(b, VIP.AsSlice()...)
}
