package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// query is a question of one daemon to another: what it is about is theirs.
type query struct {
	What string `json:"what"`
}

// queried is the answer, beside its bytes.
type queried struct {
	Err string `json:"err,omitempty"`
}

const (
	queryTime     = 3 * time.Second // the most that Query takes
	queryProtocol = 2               // from which on there are queries
)

// ErrOldNode says that a node runs a program that can not do what it is asked.
var ErrOldNode = errors.New("it runs a version that can not be asked for this: upgrade it")

// Query puts a question to a node, by name, id or address, which its
// Config.Answer answers. It takes three seconds at most. Nothing is known of
// whether the other did something if it fails.
func (n *Node) Query(ctx context.Context, node, what string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	m, err := n.find(node)
	switch {
	case err != nil:
		return nil, err
	case m.Self:
		return n.answerQuery(ctx, what)
	}
	b, err := n.query(ctx, m, what)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", m.label(), err)
	}
	return b, nil
}

func (n *Node) answerQuery(ctx context.Context, what string) ([]byte, error) {
	if n.cfg.Answer == nil {
		return nil, errors.New("nobody answers questions here")
	}
	return n.cfg.Answer(ctx, what)
}

func (n *Node) query(ctx context.Context, m MemberStatus, what string) ([]byte, error) {
	s, err := n.streams.Dial(ctx, m.Addr, PurposeForward)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	switch {
	case s.Hello.Node != m.ID:
		return nil, errors.New("another node is at its address")
	case s.Protocol() < queryProtocol:
		return nil, ErrOldNode
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := sendMessage(s, message{Query: &query{what}}, nil); err != nil {
		return nil, err
	}
	r, b, err := receiveMessage(s, changeMax)
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("it did not answer in time")
	case err != nil:
		return nil, err
	case r.Reply == nil || r.Reply.Query == nil:
		return nil, errors.New("its answer makes no sense")
	case r.Reply.Query.Err != "":
		return nil, errors.New(shorten(clean(r.Reply.Query.Err), detailMax))
	}
	return b, nil
}

// serveQuery answers a question of another node.
func (n *Node) serveQuery(ctx context.Context, s Stream, q query) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	b, err := n.answerQuery(ctx, q.What)
	var a queried
	if err == nil && len(b) > changeMax {
		err = errTooLong
	}
	if err != nil {
		a.Err, b = shorten(err.Error(), detailMax), nil
	}
	s.SetWriteDeadline(time.Now().Add(queryTime))
	_ = sendMessage(s, message{Reply: &reply{Query: &a}}, b)
}
