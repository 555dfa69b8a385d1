package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// streams is what agreement needs of the one port: Wire, or a network in memory.
type streams interface {
	// Dial connects to the node at that address. The error is or wraps
	// syscall.ECONNREFUSED if there is a host but no process.
	Dial(ctx context.Context, to netip.AddrPort, p Purpose) (Stream, error)
	// Accept gives what others have dialed.
	Accept(p Purpose) <-chan Stream
}

// transport is raft's transport with the rules of the elector on both sides of
// it. Outside it is raft's own protocol over streams of the wire.
//
// Below are two of raft's transports that dial. A request that got lost blocks
// the heartbeats to that peer until it times out, so they have a short time; a
// follower with a slow disk needs a long one. What others ask comes by ear.go.
//
// Whatever counts for a node, a vote or an acknowledgement, comes on a stream on
// which that node has proved itself: at its address there may be another by now.
type transport struct {
	quick, bulk *raft.NetworkTransport
	ears        *raft.NetworkTransportConfig // of what others have dialed
	elector     *elector
	net         *layer
	rpcs        chan raft.RPC
	beat        atomic.Pointer[func(raft.RPC)]
	down        chan struct{}
	pumps       sync.WaitGroup
	where       func(id string) (netip.AddrPort, bool) // nil: as raft's configuration says
	muted       atomic.Uint64                          // a leader of this term or an earlier one says nothing, see mute
}

const connsKept = 2

var errTooEarly = errors.New("no vote leaves this node yet")

func newTransport(e *elector, s streams, self netip.AddrPort, logger hclog.Logger) *transport {
	down := make(chan struct{})
	l := &layer{streams: s, self: self, elector: e, down: down, conns: map[net.Conn]bool{}}
	l.spares = &spares{dial: l.reach, idle: map[netip.AddrPort]*spareSet{}}
	config := func(timeout time.Duration) *raft.NetworkTransportConfig {
		return &raft.NetworkTransportConfig{
			Stream: l, MaxPool: connsKept, MaxRPCsInFlight: 8, Timeout: timeout, Logger: logger,
			MsgpackUseNewTimeFormat: true,
		}
	}
	// Longer than a vote may be held back.
	quick, bulk := config(3*e.hb), config(max(2*time.Second, 5*e.hb))
	t := &transport{
		elector: e, net: l, down: down, rpcs: make(chan raft.RPC), ears: bulk,
		quick: raft.NewNetworkTransportWithConfig(quick),
		bulk:  raft.NewNetworkTransportWithConfig(bulk),
	}
	t.pumps.Go(t.listen)
	return t
}

// Close ends the transport and every stream of it.
func (t *transport) Close() error {
	select {
	case <-t.down:
		return nil
	default:
	}
	close(t.down)
	_ = t.quick.Close()
	_ = t.bulk.Close()
	t.quick.CloseStreams()
	t.bulk.CloseStreams()
	t.net.closeAll()
	t.pumps.Wait()
	return nil
}

func (t *transport) Consumer() <-chan raft.RPC                               { return t.rpcs }
func (t *transport) LocalAddr() raft.ServerAddress                           { return raft.ServerAddress(t.net.self.String()) }
func (t *transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (t *transport) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (t *transport) SetHeartbeatHandler(f func(raft.RPC))                    { t.beat.Store(&f) }

// at returns whom to dial, and where, for layer.Dial: the address may be newer
// than raft's. As raft keeps connections by that name, those to one node are
// never used for another.
func (t *transport) at(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	if t.where != nil {
		if to, ok := t.where(string(id)); ok {
			a = raft.ServerAddress(to.String())
		}
	}
	return raft.ServerAddress(id) + idMark + a
}

// idMark is between the id and the address of whom to dial.
const idMark = "@"

func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}

func (t *transport) AppendEntries(id raft.ServerID, a raft.ServerAddress, q *raft.AppendEntriesRequest, p *raft.AppendEntriesResponse) error {
	if q.Term <= t.muted.Load() {
		return errMuted
	}
	way, sent := t.bulk, time.Now()
	if isHeartbeat(q) {
		way = t.quick
	}
	err := way.AppendEntries(id, t.at(id, a), q, p)
	if err == nil && p.Term == q.Term {
		t.elector.acked(string(id), q.Term, sent)
		if p.Success {
			t.elector.matches(string(id), q)
		}
	}
	return err
}

func (t *transport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, q *raft.InstallSnapshotRequest, p *raft.InstallSnapshotResponse, data io.Reader) error {
	sent := time.Now()
	err := t.bulk.InstallSnapshot(id, t.at(id, a), q, p, data)
	if err == nil && p.Term == q.Term {
		t.elector.acked(string(id), q.Term, sent)
	}
	return err
}

func (t *transport) TimeoutNow(id raft.ServerID, a raft.ServerAddress, q *raft.TimeoutNowRequest, p *raft.TimeoutNowResponse) error {
	return t.quick.TimeoutNow(id, t.at(id, a), q, p)
}

// RequestVote carries this node's own vote: it waits until that may leave.
func (t *transport) RequestVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestVoteRequest, p *raft.RequestVoteResponse) error {
	if !t.elector.admit(t.down) {
		return errTooEarly
	}
	return t.again(func() error { return t.quick.RequestVote(id, t.at(id, a), q, p) })
}

// RequestPreVote waits too: it would end in a higher term that is of no use.
func (t *transport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestPreVoteRequest, p *raft.RequestPreVoteResponse) error {
	if !t.elector.admit(t.down) {
		return errTooEarly
	}
	return t.again(func() error { return t.quick.RequestPreVote(id, t.at(id, a), q, p) })
}

var errMuted = errors.New("this node has resigned")

// mute ends what this node says as the leader of a term. Raft here may not know
// yet that it leads no more, and would keep the others from following.
func (t *transport) mute(term uint64) { t.muted.Store(term) }

// again tries once more for each connection that may have been kept from before
// the peer was started anew: raft asks for a vote once in an election, and would
// wait for its timer.
func (t *transport) again(call func() error) error {
	start := time.Now()
	err := call()
	for range connsKept {
		if err == nil || time.Since(start) > t.elector.hb/4 {
			break
		}
		err = call()
	}
	return err
}

// AppendEntriesPipeline returns a pipeline whose acknowledgements count for the lease.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	below, err := t.bulk.AppendEntriesPipeline(id, t.at(id, a))
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: below, trans: t, id: string(id), elector: t.elector, done: make(chan raft.AppendFuture), down: make(chan struct{})}
	p.relay.Go(p.run)
	return p, nil
}

type pipeline struct {
	raft.AppendPipeline
	trans   *transport
	id      string
	elector *elector
	done    chan raft.AppendFuture
	down    chan struct{}
	once    sync.Once
	relay   sync.WaitGroup
}

// AppendEntries is of raft.AppendPipeline.
func (p *pipeline) AppendEntries(q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if q.Term <= p.trans.muted.Load() {
		return nil, errMuted
	}
	return p.AppendPipeline.AppendEntries(q, r)
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.down) })
	err := p.AppendPipeline.Close()
	p.relay.Wait()
	return err
}

// run takes every answer at once, whether raft wants it or not: raft stops
// listening when it sees a newer term, while it is still sending, and a sender
// that finds the pipeline full then would wait for ever.
func (p *pipeline) run() {
	var waiting []raft.AppendFuture
	for {
		var out chan raft.AppendFuture
		var first raft.AppendFuture
		if len(waiting) > 0 {
			out, first = p.done, waiting[0]
		}
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() == nil && f.Response().Term == f.Request().Term {
				p.elector.acked(p.id, f.Request().Term, f.Start())
				if f.Response().Success {
					p.elector.matches(p.id, f.Request())
				}
			}
			waiting = append(waiting, f)
		case out <- first:
			waiting = waiting[1:]
		case <-p.down:
			return
		}
	}
}

// heartbeat is called beside raft's main loop, which may be waiting for the
// disk. What could change raft's term or state nevertheless goes there: raft's
// own fast path would race with the votes it handles.
func (t *transport) heartbeat(rpc raft.RPC) {
	q := rpc.Command.(*raft.AppendEntriesRequest)
	if !t.hear(q.RPCHeader, q.Term) {
		rpc.Respond(nil, errFallen)
		return
	}
	r, beat := t.elector.raft.Load(), t.beat.Load()
	if r != nil && beat != nil && r.State() == raft.Follower && r.CurrentTerm() == q.Term {
		(*beat)(rpc)
		return
	}
	t.pass(rpc)
}

func (t *transport) hear(h raft.RPCHeader, term uint64) bool {
	return t.elector.hear(string(h.ID), term)
}

// pass gives a request to raft.
func (t *transport) pass(rpc raft.RPC) bool {
	select {
	case t.rpcs <- rpc:
		return true
	case <-t.down:
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return false
	}
}

// vote holds a request back until this node may vote, and looks again before the
// vote leaves: a heartbeat may have been acknowledged in between.
func (t *transport) vote(rpc raft.RPC) {
	term, index := reachOf(rpc.Command)
	if !t.elector.yields(term, index, t.down) || !t.elector.admit(t.down) {
		rpc.Respond(nil, errTooEarly)
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	if !t.pass(raft.RPC{Command: rpc.Command, RespChan: answer}) {
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return
	}
	select {
	case a := <-answer:
		if v, ok := a.Response.(*raft.RequestVoteResponse); ok {
			if !v.Granted {
				t.elector.denied()
			} else if !t.elector.granted() {
				a = raft.RPCResponse{Error: errTooEarly}
			}
		}
		if a.Response == nil && a.Error == nil {
			a.Error = errTooEarly
		}
		rpc.Respond(a.Response, a.Error)
	case <-t.down:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// stand makes raft a candidate at once.
func (t *transport) stand(id string) {
	answer := make(chan raft.RPCResponse, 1)
	h := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(t.LocalAddr())}
	t.pass(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: h}, RespChan: answer})
}

// layer gives raft's transports their streams.
type layer struct {
	streams streams
	self    netip.AddrPort
	elector *elector
	down    chan struct{}
	spares  *spares

	mu    sync.Mutex
	conns map[net.Conn]bool // open ones; nil after the end
}

// Dial connects to the node of that id, and to no other that is at its address.
func (l *layer) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, at, _ := strings.Cut(string(a), idMark)
	to, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, err
	}
	if c := l.spares.take(to, id); c != nil {
		return c, nil
	}
	// The dial must not outlast the request: heartbeats wait for it.
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, 3*l.elector.hb))
	defer cancel()
	c, err := l.reach(ctx, to)
	if err != nil {
		return nil, err
	}
	if c.node != id {
		c.Close()
		return nil, fmt.Errorf("%s is not there: at %s there is another node now, %s", id, to, c.node)
	}
	return c, nil
}

func (l *layer) reach(ctx context.Context, to netip.AddrPort) (*kept, error) {
	s, err := l.streams.Dial(ctx, to, PurposeRaft)
	if err != nil {
		return nil, err
	}
	l.elector.meet(s.Hello)
	return l.keep(s)
}

// Accept is never used: see ear.
func (l *layer) Accept() (net.Conn, error) {
	<-l.down
	return nil, net.ErrClosed
}

func (l *layer) keep(s Stream) (*kept, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		s.Close()
		return nil, net.ErrClosed
	}
	l.conns[s.Conn] = true
	return &kept{s.Conn, l, s.Hello.Node.String()}, nil
}

func (l *layer) closeAll() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

func (l *layer) Close() error   { return nil }
func (l *layer) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.self) }

// kept is a stream that the layer closes at the end.
type kept struct {
	net.Conn
	layer *layer
	node  string // who has proved itself at the other end
}

func (k *kept) Close() error {
	k.layer.mu.Lock()
	delete(k.layer.conns, k.Conn)
	k.layer.mu.Unlock()
	return k.Conn.Close()
}
