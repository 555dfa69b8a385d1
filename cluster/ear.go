package cluster

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ear is a stream of raft's protocol that another node has dialed, as a listener
// that accepts just that one. A request does not tell on which stream it came, so
// each stream has a transport of raft's of its own: what is asked there counts
// for the node that has proved itself there, and for no other.
type ear struct {
	conn *earConn
	once chan struct{} // holds the one accept
	over chan struct{} // closed with the transport
	end  sync.Once
}

func (e *ear) Accept() (net.Conn, error) {
	select {
	case <-e.once:
		return e.conn, nil
	case <-e.over:
		return nil, net.ErrClosed
	}
}

// Dial is never used.
func (e *ear) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (e *ear) Addr() net.Addr { return e.conn.LocalAddr() }

func (e *ear) Close() error {
	e.end.Do(func() { close(e.over) })
	return nil
}

// earConn tells when it is over.
type earConn struct {
	*kept
	gone chan struct{}
	end  sync.Once
}

// Read says of any end of the stream that it is the end: raft would log the
// others as errors, and they are what happens when a process ends.
func (c *earConn) Read(b []byte) (int, error) {
	n, err := c.kept.Read(b)
	if err != nil && gone(err) {
		err = io.EOF
	}
	return n, err
}

func (c *earConn) Close() error {
	c.end.Do(func() { close(c.gone) })
	return c.kept.Close()
}

// listen takes what others have dialed.
func (t *transport) listen() {
	for {
		select {
		case s, ok := <-t.net.streams.Accept(PurposeRaft):
			if !ok {
				return
			}
			t.elector.meet(s.Hello)
			if c, err := t.net.keep(s); err == nil {
				t.pumps.Go(func() { t.attend(c) })
			}
		case <-t.down:
			return
		}
	}
}

// attend hands what a peer asks to raft, until its stream ends. The rules see it
// first.
func (t *transport) attend(c *kept) {
	e := &ear{conn: &earConn{kept: c, gone: make(chan struct{})}, once: make(chan struct{}, 1), over: make(chan struct{})}
	e.once <- struct{}{}
	config := *t.ears
	config.Stream = e
	below := raft.NewNetworkTransportWithConfig(&config)
	defer e.conn.Close()
	defer func() { _ = below.Close() }()
	below.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !t.sort(rpc, c.node) {
			e.conn.Close()
		}
	})
	for {
		select {
		case rpc := <-below.Consumer():
			if !t.sort(rpc, c.node) {
				return
			}
		case <-e.conn.gone:
			return
		case <-t.down:
			return
		}
	}
}

// errOtherNode answers who asks in the name of another.
var errOtherNode = errors.New("asked in the name of another node")

// sort looks at one request of a node. It is called once at a time for each
// stream, as raft answers before it reads on. The stream is of no use any more if
// the request names another node.
func (t *transport) sort(rpc raft.RPC, from string) bool {
	h := rpc.Command.(raft.WithRPCHeader).GetRPCHeader()
	if string(h.ID) != from {
		t.elector.log.Warn("a node asked in the name of another", "member", from, "name", clean(string(h.ID)))
		rpc.Respond(nil, errOtherNode)
		return false
	}
	t.elector.touch(from)
	switch q := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if isHeartbeat(q) {
			t.heartbeat(rpc)
			return true
		}
		if !t.hear(h, q.Term) {
			rpc.Respond(nil, errFallen)
			return true
		}
	case *raft.InstallSnapshotRequest:
		if !t.hear(h, q.Term) {
			rpc.Respond(nil, errFallen)
			return false // a snapshot follows, which nobody reads
		}
	case *raft.TimeoutNowRequest:
		if t.elector.isFallen() {
			rpc.Respond(nil, errFallen)
			return true
		}
		t.elector.told()
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		t.vote(rpc)
		return true
	}
	return t.pass(rpc)
}
