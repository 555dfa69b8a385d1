package direct

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// link is one interface on which there are services.
type link struct {
	name       string
	index      int
	own        mac
	socket     *socket
	neighbours *neighbours
	totals     *totals
	plan       atomic.Pointer[plan]
	allowed    func() (packets, answers bool)
	kick       func()
	announced  announcements

	ended chan struct{} // closed when receive has returned
}

// openLink makes the interface ready; nothing is received before the first plan.
func openLink(i *net.Interface, neighbours *neighbours) (*link, error) {
	s, err := openSocket(i.Index)
	if err != nil {
		return nil, err
	}
	l := &link{name: i.Name, index: i.Index, socket: s, neighbours: neighbours, ended: make(chan struct{})}
	copy(l.own[:], i.HardwareAddr)
	return l, nil
}

// adopt makes p what counts.
func (l *link) adopt(p *plan) error {
	before := l.plan.Load()
	if !before.alike(p) {
		var addrs, groups []netip.Addr
		for a, routes := range p.routes {
			addrs = append(addrs, a)
			if slices.ContainsFunc(routes, func(r *route) bool { return r.answer }) {
				groups = append(groups, a)
			}
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		if err := errors.Join(l.socket.filter(filter(addrs, len(p.tarpit) > 0)), l.socket.join(groups, len(p.tarpit) > 0)); err != nil {
			return err
		}
	}
	l.plan.Store(p)
	if before != nil {
		return nil
	}
	if err := l.socket.bind(); err != nil {
		return err
	}
	go l.receive()
	return nil
}

// receive does what judge says, until the socket is closed.
func (l *link) receive() {
	defer close(l.ended)
	j := &judge{neighbours: l.neighbours, totals: l.totals, pieces: newPieces(), kick: l.kick}
	for {
		n, err := l.socket.receive()
		switch {
		case err == nil:
			l.handle(j, n)
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.EINVAL):
			// A frame whose offloads can not be told. It is gone.
			l.totals.dropped.Add(1)
		default:
			// The interface is down, or worse. What must not happen is a loop without pause.
			time.Sleep(again)
		}
	}
}

// handle judges n frames and sends what there is to send. The permission is asked
// for when they are here: however long they have waited, or this process has slept.
func (l *link) handle(j *judge, n int) {
	s, p, now := l.socket, l.plan.Load(), time.Now()
	packets, answers := l.allowed()
	out := 0
	for i := range n {
		b := s.frame(i)
		if b == nil {
			l.totals.dropped.Add(1)
			continue
		}
		reply := s.replies[i][:headLen]
		v, reply := j.frame(p, b[headLen:], reply, packets, answers, now)
		switch v {
		case sendOn:
			onlyChecksum(b)
			s.put(out, b)
		case answer:
			s.put(out, reply)
		default:
			continue
		}
		out++
	}
	if failed := s.flush(out); failed > 0 {
		l.totals.dropped.Add(uint64(failed))
	}
}

// ask asks servers where they are. It reports whether one does not answer any more.
func (l *link) ask(now time.Time) (lost bool) {
	return l.neighbours.due(now, func(addr netip.Addr, to mac) {
		_ = l.socket.send(ask(make([]byte, 0, replyRoom), l.own, addr, to)) // what is not sent is not answered
	})
}

// announce tells everybody, a few times, that the addresses for which we answer are here.
func (l *link) announce(now time.Time) {
	p := l.plan.Load()
	if _, answers := l.allowed(); p == nil || !answers {
		l.announced = announcements{}
		return
	}
	for a := range p.routes {
		if p.answers(a) && l.announced.due(a, now) {
			_ = l.socket.send(announce(make([]byte, 0, replyRoom), l.own, a)) // asked for, it is answered
		}
	}
}

// close returns when nothing is received or sent any more.
func (l *link) close() {
	started := l.plan.Load() != nil
	l.socket.close()
	if started {
		<-l.ended
	}
}
