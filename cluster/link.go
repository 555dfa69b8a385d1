package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"pen/state"
)

// message is what nodes tell each other beside raft's protocol.
type message struct {
	N        uint64        `json:"n,omitempty"` // of a request and its reply
	Ask      *question     `json:"ask,omitempty"`
	Released *releasedTerm `json:"released,omitempty"`
	Note     *note         `json:"note,omitempty"`
	Change   *change       `json:"change,omitempty"`
	Removed  *removal      `json:"removed,omitempty"`
	Form     *formAsk      `json:"form,omitempty"`
	Query    *query        `json:"query,omitempty"`
	Reply    *reply        `json:"reply,omitempty"`
}

type releasedTerm struct {
	Term uint64 `json:"term"`
	Heir string `json:"heir,omitempty"`
	Why  string `json:"why,omitempty"` // of the transfer, for people

	from string // who has said so; empty: this node
}

// change is a command, a transfer or a removal on its way to the leader.
type change struct {
	Transfer bool   `json:"transfer,omitempty"`
	Remove   bool   `json:"remove,omitempty"`
	To       string `json:"to,omitempty"`
	By       string `json:"by,omitempty"`
	Force    bool   `json:"force,omitempty"`
}

// result is what the leader says about it.
type result struct {
	Done    bool   `json:"done,omitempty"` // it is committed
	Entry   uint64 `json:"entry,omitempty"`
	Index   uint64 `json:"index,omitempty"`
	Refused string `json:"refused,omitempty"` // by the state
	Maybe   bool   `json:"maybe,omitempty"`   // not done, but it may yet come
	Err     string `json:"err,omitempty"`
	Again   bool   `json:"again,omitempty"` // another leads: nothing was done
}

type reply struct {
	Yes    bool     `json:"yes,omitempty"`
	Change *result  `json:"change,omitempty"`
	Form   *formed  `json:"form,omitempty"`
	Query  *queried `json:"query,omitempty"`
}

const (
	messageMax = 64 << 10
	changeMax  = state.MaxCommand
	noteEvery  = 500 * time.Millisecond
	asksAtOnce = 16
	// A process that dies takes its connections along before its port, as it may
	// be: who looks again at once sees that it is gone.
	redialFirst = 2 * time.Millisecond
)

var errTooLong = errors.New("message too long")

// sendMessage writes a message and the bytes that belong to it.
func sendMessage(w io.Writer, m message, body []byte) error {
	head, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(head) > messageMax {
		return errTooLong
	}
	b := make([]byte, 0, 8+len(head)+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	_, err = w.Write(append(append(b, head...), body...))
	return err
}

// receiveMessage reads what sendMessage wrote, with a body of at most so many
// bytes. Memory grows with what arrives, not with what is announced.
func receiveMessage(r io.Reader, most int) (m message, body []byte, err error) {
	var sizes [8]byte
	if _, err := io.ReadFull(r, sizes[:]); err != nil {
		return m, nil, err
	}
	head, rest := binary.BigEndian.Uint32(sizes[:4]), binary.BigEndian.Uint32(sizes[4:])
	if head > messageMax || uint64(rest) > uint64(most) {
		return m, nil, errTooLong
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(head)+int64(rest)))
	if err == nil && len(b) < int(head)+int(rest) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return m, nil, err
	}
	if err := json.Unmarshal(b[:head], &m); err != nil {
		return m, nil, fmt.Errorf("message: %w", err)
	}
	return m, b[head:], nil
}

// links keeps one connection to each peer open: a question on it costs one round
// trip, and its end is news.
type links struct {
	streams streams
	elector *elector
	log     *slog.Logger
	peers   func() []netip.AddrPort // whom to be connected with, this node not among them
	note    func() note             // what to say of this node
	heard   func(h Hello, n note)   // what another has said
	change  func(ctx context.Context, s Stream, m message, body []byte)
	query   func(ctx context.Context, s Stream, q query)
	removed func(removal)                                // this node was
	warm    func(ctx context.Context, to netip.AddrPort) // keeps what else is needed of that peer ready

	again chan struct{} // the peers may be others; room for one

	mu     sync.Mutex
	byID   map[string]*link
	byAddr map[netip.AddrPort]bool
	closed map[string]time.Time // nodes whose link broke, when their port was found closed
	number uint64
	wake   chan struct{} // closed and replaced when there is something to say

	telling int           // who is being told of a release
	quiet   chan struct{} // closed and replaced when nobody is
}

// link is an open connection that this node has dialed.
type link struct {
	conn    net.Conn
	hello   Hello
	writing sync.Mutex

	mu      sync.Mutex
	waiting map[uint64]chan reply // nil after the end
}

func newLinks(e *elector, s streams, log *slog.Logger) *links {
	return &links{
		streams: s, elector: e, log: log, again: make(chan struct{}, 1),
		byID: map[string]*link{}, byAddr: map[netip.AddrPort]bool{}, closed: map[string]time.Time{}, wake: make(chan struct{}), quiet: make(chan struct{}),
	}
}

// run keeps the links and answers those of others until ctx ends.
func (l *links) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { l.accept(ctx) })
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		for _, to := range l.peers() {
			l.mu.Lock()
			known := l.byAddr[to]
			l.byAddr[to] = true
			l.mu.Unlock()
			if !known {
				all.Go(func() { l.keep(ctx, to) })
			}
		}
		select {
		case <-tick.C:
		case <-l.again:
		case <-ctx.Done():
			return
		}
	}
}

// look makes run look at the peers now.
func (l *links) look() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// keep has a link to an address for as long as it is one of a peer.
func (l *links) keep(ctx context.Context, to netip.AddrPort) {
	defer func() {
		l.mu.Lock()
		delete(l.byAddr, to)
		l.mu.Unlock()
	}()
	var last string // who was there
	pause := redialFirst
	for l.wanted(to) && ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, 3*l.elector.hb)
		s, err := l.streams.Dial(dial, to, PurposeForward)
		cancel()
		if err == nil {
			last = s.Hello.Node.String()
			l.elector.meet(s.Hello)
			since := time.Now()
			l.use(ctx, s, to)
			if time.Since(since) > l.elector.hb {
				pause = redialFirst
				continue
			}
		}
		// The host is there and the process is not: its lease ends, and nobody
		// renews it.
		if last != "" && errors.Is(err, syscall.ECONNREFUSED) {
			l.elector.lost(last)
			l.shut(last)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, l.elector.hb/2)
	}
}

func (l *links) wanted(to netip.AddrPort) bool {
	for _, a := range l.peers() {
		if a == to {
			return true
		}
	}
	return false
}

// use is the life of a link.
func (l *links) use(ctx context.Context, s Stream, to netip.AddrPort) {
	k := &link{conn: s.Conn, hello: s.Hello, waiting: map[uint64]chan reply{}}
	id := s.Hello.Node.String()
	l.mu.Lock()
	l.byID[id] = k
	delete(l.closed, id)
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var notes sync.WaitGroup
	notes.Go(func() { l.notes(ctx, k) })
	notes.Go(func() { l.warm(ctx, to) })
	stop := context.AfterFunc(ctx, func() { k.conn.Close() })
	l.read(k)
	stop()
	k.end()
	l.mu.Lock()
	if l.byID[id] == k {
		delete(l.byID, id)
	}
	l.mu.Unlock()
	cancel()
	notes.Wait()
}

// read takes replies until the link ends, which it does when nothing comes.
func (l *links) read(k *link) {
	for {
		k.conn.SetReadDeadline(time.Now().Add(3*noteEvery + l.elector.hb))
		m, _, err := receiveMessage(k.conn, 0)
		if err != nil || m.Reply == nil {
			return
		}
		k.mu.Lock()
		c := k.waiting[m.N]
		delete(k.waiting, m.N)
		k.mu.Unlock()
		if c != nil {
			c <- *m.Reply
		}
	}
}

func (k *link) end() {
	k.conn.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.waiting {
		close(c)
	}
	k.waiting = nil
}

// notes tells how this node is, when that changes and now and then: the replies
// show that the link is alive.
func (l *links) notes(ctx context.Context, k *link) {
	for {
		l.mu.Lock()
		wake := l.wake
		l.mu.Unlock()
		n := l.note()
		if _, err := l.call(ctx, k, message{Note: &n}); err != nil && ctx.Err() == nil {
			k.conn.Close()
			return
		}
		select {
		case <-wake:
		case <-time.After(noteEvery):
		case <-ctx.Done():
			return
		}
	}
}

// announce makes all links say the note anew.
func (l *links) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wake)
	l.wake = make(chan struct{})
}

// shut notes that a node's port is closed.
func (l *links) shut(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed[id].IsZero() {
		l.closed[id] = time.Now()
	}
}

// goneSince tells whether the process of a node has gone since it was last heard.
func (l *links) goneSince(id string, heard time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed[id].After(heard)
}

// connected tells whether there is a link to a node.
func (l *links) connected(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id] != nil
}

var errNoLink = errors.New("not connected")

// call sends a request and waits for its reply.
func (l *links) call(ctx context.Context, k *link, m message) (reply, error) {
	l.mu.Lock()
	l.number++
	m.N = l.number
	l.mu.Unlock()
	c := make(chan reply, 1)
	k.mu.Lock()
	if k.waiting == nil {
		k.mu.Unlock()
		return reply{}, errNoLink
	}
	k.waiting[m.N] = c
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.waiting, m.N)
		k.mu.Unlock()
	}()
	k.writing.Lock()
	k.conn.SetWriteDeadline(time.Now().Add(3 * l.elector.hb))
	err := sendMessage(k.conn, m, nil)
	k.writing.Unlock()
	if err != nil {
		return reply{}, err
	}
	select {
	case r, ok := <-c:
		if !ok {
			return reply{}, errNoLink
		}
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// ask puts a question to a node.
func (l *links) ask(ctx context.Context, id string, q question) (bool, error) {
	l.mu.Lock()
	k := l.byID[id]
	l.mu.Unlock()
	if k == nil {
		return false, errNoLink
	}
	r, err := l.call(ctx, k, message{Ask: &q})
	return r.Yes, err
}

// released tells everybody that a term's leader has let the address go, each for
// a heartbeat timeout at most. The channel is closed when those know who can make
// the heir a leader: itself and, with this node, a majority of who is connected.
func (l *links) released(w releasedTerm) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	enough := make(chan struct{})
	all := len(l.byID)
	need, heir := (all+1)/2, l.byID[w.Heir] != nil
	if need == 0 {
		close(enough)
		return enough
	}
	know := 0
	l.telling += all
	for id, k := range l.byID {
		go func() { // flush waits for it
			ctx, cancel := context.WithTimeout(context.Background(), l.elector.hb)
			defer cancel()
			_, err := l.call(ctx, k, message{Released: &w})
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.telling--; l.telling == 0 {
				close(l.quiet)
				l.quiet = make(chan struct{})
			}
			if err != nil {
				return
			}
			before := know >= need && !heir
			know++
			heir = heir && id != w.Heir
			if !before && know >= need && !heir {
				close(enough)
			}
		}()
	}
	return enough
}

// flush waits until everybody knows what released is telling, or ctx has ended.
func (l *links) flush(ctx context.Context) {
	l.mu.Lock()
	telling, quiet := l.telling, l.quiet
	l.mu.Unlock()
	if telling == 0 {
		return
	}
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}

// accept serves the links that others have dialed.
func (l *links) accept(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case s, ok := <-l.streams.Accept(PurposeForward):
			if !ok {
				return
			}
			all.Go(func() { l.serve(ctx, s) })
		case <-ctx.Done():
			return
		}
	}
}

func (l *links) serve(ctx context.Context, s Stream) {
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	l.elector.meet(s.Hello)
	var asks sync.WaitGroup
	defer asks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	room := make(chan struct{}, asksAtOnce)
	var writing sync.Mutex
	for {
		s.SetReadDeadline(time.Now().Add(3*noteEvery + l.elector.hb))
		m, body, err := receiveMessage(s, changeMax)
		if err != nil {
			return
		}
		say := func(r reply) {
			writing.Lock()
			defer writing.Unlock()
			s.SetWriteDeadline(time.Now().Add(3 * l.elector.hb))
			if sendMessage(s, message{N: m.N, Reply: &r}, nil) != nil {
				s.Close()
			}
		}
		switch {
		case m.Ask != nil:
			m.Ask.From = s.Hello.Node.String()
			select {
			case room <- struct{}{}:
			default:
				say(reply{})
				continue
			}
			asks.Go(func() {
				say(reply{Yes: l.elector.answer(*m.Ask, ctx.Done())})
				<-room
			})
		case m.Released != nil:
			m.Released.from = s.Hello.Node.String()
			l.elector.released(*m.Released, false)
			say(reply{Yes: true})
		case m.Note != nil:
			l.heard(s.Hello, *m.Note)
			say(reply{Yes: true})
		case m.Removed != nil && l.removed != nil:
			l.removed(*m.Removed)
			say(reply{Yes: true})
		case m.Change != nil && l.change != nil:
			l.change(ctx, s, m, body)
			return
		case m.Query != nil && l.query != nil:
			l.query(ctx, s, *m.Query)
			return
		default:
			return
		}
	}
}
