package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/raft"

	"pen/state"
)

const (
	proposeTime = 2 * time.Second // the most that Propose takes
	leaderPause = 10 * time.Millisecond
	// dialLeast is how long a leader has at least to say hello: a handshake takes
	// its time on a busy machine.
	dialLeast = 250 * time.Millisecond
)

var errLeaderChanged = errors.New("the leader changed")

// Outcome tells what became of a command that Propose gave up.
type Outcome uint8

// The outcomes.
const (
	NotApplied Outcome = iota // and it will not be
	Unknown                   // it may have been, or may yet be
	Applied                   // it is, but this node does not have it yet
)

func (o Outcome) String() string {
	return [...]string{
		"the change was not applied",
		"the change may have been applied: look before you repeat it",
		"the change was applied, but this node does not have it yet",
	}[o]
}

// ProposeError is the error of Propose.
type ProposeError struct {
	Outcome Outcome
	Err     error
}

func (e *ProposeError) Error() string {
	if e.Outcome == Applied {
		return e.Outcome.String()
	}
	return fmt.Sprintf("%v; %v", e.Err, e.Outcome)
}

func (e *ProposeError) Unwrap() error { return e.Err }

// ErrNoLeader says that nobody could take a change: there is no quorum, or an
// election has not ended yet.
var ErrNoLeader = errors.New("no leader")

// worded is an error that says something else to people than to programs.
type worded struct {
	text string
	error
}

func (w worded) Error() string { return w.text }
func (w worded) Unwrap() error { return w.error }

var errStopping = worded{"this node is stopping", os.ErrClosed}

// Propose makes the command part of the state of all nodes. Any node takes it.
// It returns after the command has been applied on this node or, with the error
// in the result, refused by the state. It takes two seconds at most; its error
// is a *ProposeError, which tells whether the command was applied.
//
// A command happens once, also when the leader changes meanwhile. The exception
// are commands that consist of visits only: to see a client twice does no harm.
func (n *Node) Propose(ctx context.Context, c state.Command) (state.Result, error) {
	once := !soft(c)
	if once {
		if len(c.Ops) == 0 || !isRequest(c.Ops[0]) {
			c.Ops = append([]state.Op{state.Request{ID: state.RequestID(NewID())}}, c.Ops...)
		}
	}
	b, err := c.Append(nil)
	if err != nil {
		return state.Result{}, &ProposeError{NotApplied, err}
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	p := proposal{node: n, bytes: b, last: ErrNoLeader}
	for {
		// Who was left behind may be a majority among themselves: what they agreed on
		// would be lost when they are wiped.
		if err := n.leftBehind(); err != nil {
			p.last = err
			break
		}
		r, done := p.try(ctx)
		if done {
			return n.arrived(ctx, r)
		}
		if p.maybe && !once {
			break
		}
		select {
		case <-time.After(leaderPause):
			continue
		case <-ctx.Done():
		case <-n.down:
			p.last = errStopping
		}
		break
	}
	e := &ProposeError{NotApplied, n.whyNobody(p.last)}
	if p.maybe {
		e.Outcome = Unknown
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		e.Err = worded{e.Err.Error() + " (interrupted)", errors.Join(e.Err, context.Canceled)}
	}
	return state.Result{}, e
}

// whyNobody adds to "no leader" what a person needs to know.
func (n *Node) whyNobody(err error) error {
	if !errors.Is(err, ErrNoLeader) {
		return err
	}
	s := n.Status()
	if s.Out != "" {
		return fmt.Errorf("%w: this node is not part of the cluster: %s", err, s.Out)
	}
	if !s.Quorum && s.Voters > 0 {
		return fmt.Errorf("%w: no quorum, %d of %d voters are alive", err, s.Living, s.Voters)
	}
	return fmt.Errorf("%w: an election is under way", err)
}

func isRequest(o state.Op) bool {
	_, ok := o.(state.Request)
	return ok
}

// arrived waits until this node has applied what the leader has.
func (n *Node) arrived(ctx context.Context, r result) (state.Result, error) {
	out := state.Result{Index: r.Index}
	if r.Refused != "" {
		out.Err = errors.New(r.Refused)
	}
	for {
		ok, moved := n.fsm.reached(r.Entry)
		if ok {
			return out, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return out, &ProposeError{Applied, ctx.Err()}
		case <-n.down:
			return out, &ProposeError{Applied, errStopping}
		}
	}
}

// proposal is a command on its way.
type proposal struct {
	node  *Node
	bytes []byte
	maybe bool // an earlier try may have been kept
	last  error
}

// try gives the command to whoever leads now.
func (p *proposal) try(ctx context.Context) (result, bool) {
	k := p.node.core.Load()
	if k == nil {
		p.last = errors.New("this node is not part of a cluster yet")
		return result{}, false
	}
	addr, id := k.raft.LeaderWithID()
	var r result
	switch {
	case id == "":
		p.last = ErrNoLeader
		return r, false
	case string(id) == k.id:
		r = k.apply(ctx, p.bytes)
	default:
		var sent bool
		var err error
		try, cancel := p.node.untilSuperseded(ctx, string(id))
		r, sent, err = p.node.carry(try, string(id), addr, change{}, p.bytes)
		cancel()
		if err != nil {
			r = result{Maybe: sent, Err: err.Error()}
		}
	}
	if r.Done {
		return r, true
	}
	p.maybe = p.maybe || r.Maybe
	p.last = errors.New(r.Err)
	return r, false
}

// hand gives an entry to raft, unless the log is shut.
func (k *core) hand(b []byte, wait time.Duration) (raft.ApplyFuture, bool) {
	k.proposing.RLock()
	defer k.proposing.RUnlock()
	if k.shut {
		return nil, false
	}
	return k.raft.Apply(b, wait), true
}

// shutLog says whether entries are refused from now on. When it returns, no
// earlier one is on its way to raft any more.
func (k *core) shutLog(shut bool) {
	k.proposing.Lock()
	defer k.proposing.Unlock()
	k.shut = shut
}

// apply proposes as the leader.
func (k *core) apply(ctx context.Context, b []byte) result {
	wait := proposeTime
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), time.Millisecond)
	}
	f, ok := k.hand(b, wait)
	if !ok {
		return result{Err: plainly(raft.ErrLeadershipTransferInProgress)}
	}
	err := outcome(ctx, nil, f)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return result{Maybe: true, Err: "no quorum: a majority of the nodes did not confirm it in time"}
	}
	if err != nil {
		// These say that the command did not get into the log.
		early := errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout)
		return result{Maybe: !early, Err: plainly(err)}
	}
	r := result{Done: true, Entry: f.Index()}
	if s, ok := f.Response().(state.Result); ok {
		r.Index = s.Index
		if s.Err != nil {
			r.Refused = s.Err.Error()
		}
	}
	return r
}

// plainly says what raft says, to people.
func plainly(err error) string {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):
		return "the leader changed"
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return "the address is on its way to another node"
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return "the leader has more changes than it can take"
	case errors.Is(err, raft.ErrRaftShutdown):
		return "the leader is stopping"
	}
	return err.Error()
}

// untilSuperseded gives a context that ends when another node than that one is
// known to lead: a leader that is frozen still takes connections, and would be
// waited for to the end.
func (n *Node) untilSuperseded(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(n.cfg.Heartbeat) // changes may be told late when there are many
		defer tick.Stop()
		for {
			changed := n.Changed()
			if now, _ := n.Leader(); now != "" && now != id {
				cancel(errLeaderChanged)
				return
			}
			select {
			case <-changed:
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// carry sends a change to the leader and waits for what it says. Sent tells that
// the leader may have it.
func (n *Node) carry(ctx context.Context, id string, a raft.ServerAddress, c change, b []byte) (r result, sent bool, err error) {
	to, ok := n.where(id)
	if !ok {
		if to, err = netip.ParseAddrPort(string(a)); err != nil {
			return r, false, err
		}
	}
	s, err := n.dialLeader(ctx, id, to)
	if err != nil {
		return r, false, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := sendMessage(s, message{Change: &c}, b); err != nil {
		return r, true, fmt.Errorf("the leader can not be told: %w", err)
	}
	m, _, err := receiveMessage(s, 0)
	switch {
	case errors.Is(context.Cause(ctx), errLeaderChanged):
		return r, true, errLeaderChanged
	case ctx.Err() != nil:
		return r, true, errors.New("the leader did not answer in time")
	case err != nil:
		return r, true, fmt.Errorf("the leader did not answer: %w", err)
	case m.Reply == nil || m.Reply.Change == nil:
		return r, true, errors.New("the leader's answer makes no sense")
	}
	return *m.Reply.Change, true, nil
}

// dialLeader opens a stream for a change. A leader that lives says hello within a
// heartbeat timeout.
func (n *Node) dialLeader(ctx context.Context, id string, to netip.AddrPort) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, max(n.cfg.Heartbeat, dialLeast))
	defer cancel()
	s, err := n.streams.Dial(ctx, to, PurposeForward)
	switch {
	case err == nil && s.Hello.Node.String() != id:
		s.Close()
		return Stream{}, fmt.Errorf("the leader is not at %s: another node is", to)
	case err == nil:
		return s, nil
	case errors.Is(context.Cause(ctx), errLeaderChanged):
		return Stream{}, errLeaderChanged
	case ctx.Err() != nil || isTimeout(err):
		return Stream{}, fmt.Errorf("the leader, at %s, does not answer", to)
	}
	return Stream{}, fmt.Errorf("the leader can not be reached: %w", err)
}

// serveChange answers a change that another node has sent. It goes no further.
func (n *Node) serveChange(ctx context.Context, s Stream, m message, b []byte) {
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	var r result
	k := n.core.Load()
	switch {
	case k == nil || k.raft.State() != raft.Leader:
		r.Err, r.Again = errNotLeading.Error(), true
	case n.behind() != "":
		r.Err = n.leftBehind().Error()
	case m.Change.Transfer:
		if err := n.giveTo(ctx, k, m.Change.To, ""); err != nil {
			r.Err, r.Again = err.Error(), errors.Is(err, errNotLeading)
		} else {
			r.Done = true
		}
	case m.Change.Remove:
		who, err := ParseID(m.Change.To)
		if err == nil {
			err = n.expel(ctx, k, who, clean(m.Change.By), m.Change.Force)
		}
		if r.Done = err == nil; err != nil {
			r.Err, r.Again = err.Error(), errors.Is(err, errNotLeading)
		}
	default:
		r = k.apply(ctx, b)
	}
	s.SetWriteDeadline(time.Now().Add(proposeTime))
	_ = sendMessage(s, message{Reply: &reply{Change: &r}}, nil)
}
