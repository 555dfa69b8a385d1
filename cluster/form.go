package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The nodes form a cluster by themselves. Each listed node that has no past asks
// the others who they are. If one is part of a cluster, it joins that. Else,
// when a majority of the list answers and nobody who answers has a past, the
// first listed of them collects promises: each node gives one at a time, writes
// it down first, and takes it back only when the proposer says so or does not
// hold it itself any more. With the promises of a majority the proposer founds the cluster. Two majorities of one
// list have a node in common, so there are never two clusters.
//
// Before that a proposer that has a majority waits a moment for the rest: one of
// them may bring the state of a single node, and no cluster should be formed
// without it. If it is formed nevertheless, that node does not join.

// promise is a formation that a node has agreed to.
type promise struct {
	Formation ID       `json:"formation"`
	Proposer  ID       `json:"proposer"`
	Members   []member `json:"members"`
}

type member struct {
	Node ID             `json:"node"`
	Addr netip.AddrPort `json:"addr"`
}

// formAsk is what a node asks in order to form: who are you, if nothing is set.
type formAsk struct {
	Promise *promise `json:"promise,omitempty"`
	Abort   *ID      `json:"abort,omitempty"`
}

// formed is the answer.
type formed struct {
	Formation  ID     `json:"formation"` // zero: none yet
	Generation uint64 `json:"generation"`
	State      bool   `json:"state,omitempty"` // it brings the state of a single node along
	Promised   ID     `json:"promised"`
	Yes        bool   `json:"yes,omitempty"`
}

// former is the part of a node that forms.
type former struct {
	self    netip.AddrPort
	peers   []netip.AddrPort // all that are listed, in the order of the list
	brings  *single          // the state of a single node, if there is one here
	wait    time.Duration
	streams streams
	log     *slog.Logger
	pause   time.Duration

	mu     sync.Mutex // guards the papers
	papers papers
	save   func(papers) error
}

func newFormer(self netip.AddrPort, peers []netip.AddrPort, s streams, p papers, save func(papers) error, pause time.Duration, log *slog.Logger) *former {
	return &former{self: self, peers: peers, wait: everybodyWait, streams: s, papers: p, save: save, pause: pause, log: log}
}

// everybodyWait is how long who could form a cluster with a majority waits for
// the other listed nodes. It is for nodes that are started together, and only
// for the very first time.
const everybodyWait = 3 * time.Second

func (f *former) now() papers {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.papers
}

// keep changes the papers, on the disk first.
func (f *former) keep(change func(*papers)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.papers
	change(&p)
	if err := f.save(p); err != nil {
		return err
	}
	f.papers = p
	return nil
}

// serve answers until ctx ends, also when this node has long been formed.
func (f *former) serve(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case s, ok := <-f.streams.Accept(PurposeForm):
			if !ok {
				return
			}
			all.Go(func() { f.answer(ctx, s) })
		case <-ctx.Done():
			return
		}
	}
}

func (f *former) answer(ctx context.Context, s Stream) {
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	s.SetDeadline(time.Now().Add(2 * time.Second))
	m, _, err := receiveMessage(s, 0)
	if err != nil || m.Form == nil {
		return
	}
	a := f.decide(*m.Form, s.Hello.Node)
	_ = sendMessage(s, message{Reply: &reply{Form: &a}}, nil)
}

// decide answers a question of a node; a promise is on the disk before it is
// given. Who proposes speaks for himself.
func (f *former) decide(q formAsk, from ID) formed {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.papers
	yes := false
	switch {
	case q.Promise != nil && q.Promise.Proposer != from, q.Abort != nil && p.Promise != nil && p.Promise.Proposer != from:
	case q.Abort != nil && p.Formation.IsZero() && !p.Found && p.Promise != nil && p.Promise.Formation == *q.Abort && p.Promise.Proposer != p.Node:
		p.Promise = nil
		yes = f.save(p) == nil
	case q.Promise != nil && p.Formation.IsZero() && p.Promise == nil:
		p.Promise = q.Promise
		yes = f.save(p) == nil
	case q.Promise != nil && p.Promise != nil && p.Promise.Formation == q.Promise.Formation:
		yes = true
	}
	if yes && q != (formAsk{}) {
		f.papers = p
	}
	a := formed{Formation: f.papers.Formation, Generation: f.papers.Generation, State: f.brings != nil, Yes: yes}
	if f.papers.Promise != nil {
		a.Promised = f.papers.Promise.Formation
	}
	return a
}

// ask puts a question to a node.
func (f *former) ask(ctx context.Context, to netip.AddrPort, q formAsk) (formed, Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := f.streams.Dial(ctx, to, PurposeForm)
	if err != nil {
		return formed{}, Hello{}, err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(time.Second))
	if err := sendMessage(s, message{Form: &q}, nil); err != nil {
		return formed{}, Hello{}, err
	}
	m, _, err := receiveMessage(s, 0)
	if err == nil && (m.Reply == nil || m.Reply.Form == nil) {
		err = errors.New("not an answer")
	}
	if err != nil {
		return formed{}, Hello{}, err
	}
	return *m.Reply.Form, s.Hello, nil
}

// seen is a node that has answered.
type seen struct {
	member
	formed
	place int // in the list
}

// step is what a node that has no past does next.
type step uint8

const (
	stepWait    step = iota
	stepJoin         // the cluster of somebody
	stepPropose      // to the others
	stepAbort        // the own proposal is pointless
)

// next decides it, from this node's place in the list, its promise and those who
// answered.
func next(self seen, p papers, others []seen, listed int) (step, *seen) {
	var whom *seen
	for i := range others {
		// After a recovery those of before may still be there.
		if o := &others[i]; !o.Formation.IsZero() && (whom == nil || o.Formation == whom.Formation && o.Generation > whom.Generation) {
			whom = o
		}
	}
	if whom != nil {
		return stepJoin, whom
	}
	if p.Promise != nil && p.Promise.Proposer == p.Node {
		return stepPropose, nil // begun is finished
	}
	if len(others)+1 < listed/2+1 || p.Promise != nil {
		return stepWait, nil
	}
	// Who brings a state goes before the list: it would be lost.
	first := self
	for _, o := range others {
		if o.State && !first.State || o.State == first.State && o.place < first.place {
			first = o
		}
	}
	if first.Node == self.Node {
		return stepPropose, nil
	}
	return stepWait, nil
}

// run returns when this node is part of a cluster: founds tells that it is the
// one to begin it. What it knows then is on the disk.
func (f *former) run(ctx context.Context) (founds bool, err error) {
	var ready time.Time // since when a majority is enough
	for first := true; ; first = false {
		if p := f.now(); !p.Formation.IsZero() {
			return p.Found, nil
		}
		if !first {
			select {
			case <-time.After(f.pause):
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		before := f.now()
		others := f.look(ctx)
		if dead(before, others) {
			// Unless it was aborted and given anew meanwhile.
			err = f.keep(func(p *papers) {
				if p.Promise != nil && p.Promise.Formation == before.Promise.Formation {
					p.Promise = nil
				}
			})
			if err != nil {
				return false, err
			}
		}
		p := f.now()
		self := seen{member: member{p.Node, f.self}, formed: formed{State: f.brings != nil}, place: slices.Index(f.peers, f.self)}
		switch what, whom := next(self, p, others, len(f.peers)); what {
		case stepJoin:
			if f.brings != nil {
				return false, f.leftOut(whom)
			}
			f.log.Info("joining the cluster", "formation", whom.Formation, "member", whom.Addr)
			err = f.keep(func(p *papers) { p.Formation, p.Generation, p.Promise = whom.Formation, whom.Generation, nil })
		case stepPropose:
			if ready.IsZero() {
				ready = time.Now()
			}
			if p.Promise == nil && len(others)+1 < len(f.peers) && time.Since(ready) < f.wait {
				continue
			}
			err = f.propose(ctx, others)
		default:
			ready = time.Time{}
		}
		if err != nil {
			return false, err
		}
	}
}

// leftOut says that this node can not join without losing what it has.
func (f *former) leftOut(by *seen) error {
	return fmt.Errorf("this node has the state of a single node in %s (%s), but the cluster was formed without it: %s is part of formation %s; "+
		"nothing was deleted; either remove %s and %s from %s, and this node joins without that state, "+
		"or stop all nodes, take the directory cluster out of the data_dir of each of them and start all together, and the cluster begins with that state",
		f.brings.dir, f.brings.what, by.Addr, by.Formation, "*"+logs, "*"+snapshots, f.brings.dir)
}

// dead tells that nothing will come of the promise that this node has given: the
// proposer does not hold it any more, and it never proposes one again; or there
// is another node in its place. The answers are newer than the promise.
func dead(p papers, others []seen) bool {
	if p.Promise == nil || p.Promise.Proposer == p.Node {
		return false
	}
	for _, o := range others {
		if o.Node == p.Promise.Proposer {
			return o.Formation.IsZero() && o.Promised != p.Promise.Formation
		}
	}
	for _, o := range others {
		for _, m := range p.Promise.Members {
			if m.Node == p.Promise.Proposer && m.Addr == o.Addr {
				return true
			}
		}
	}
	return false
}

// look asks everybody at once.
func (f *former) look(ctx context.Context) []seen {
	var mu sync.Mutex
	var all []seen
	var asking sync.WaitGroup
	for i, to := range f.peers {
		if to == f.self {
			continue
		}
		asking.Go(func() {
			a, h, err := f.ask(ctx, to, formAsk{})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, seen{member{h.Node, to}, a, i})
		})
	}
	asking.Wait()
	slices.SortFunc(all, func(a, b seen) int { return a.place - b.place })
	return all
}

// propose collects promises and, with a majority, makes this node the founder.
func (f *former) propose(ctx context.Context, others []seen) error {
	p := f.now()
	if p.Promise == nil {
		m := &promise{Formation: NewID(), Proposer: p.Node, Members: []member{{p.Node, f.self}}}
		for _, o := range others {
			m.Members = append(m.Members, o.member)
		}
		if err := f.keep(func(p *papers) { p.Promise = m }); err != nil {
			return err
		}
		p = f.now()
	}
	var mu sync.Mutex
	yes := []member{{p.Node, f.self}}
	var asking sync.WaitGroup
	for _, m := range p.Promise.Members {
		if m.Node == p.Node {
			continue
		}
		asking.Go(func() {
			a, h, err := f.ask(ctx, m.Addr, formAsk{Promise: p.Promise})
			if err == nil && a.Yes && h.Node == m.Node {
				mu.Lock()
				defer mu.Unlock()
				yes = append(yes, m)
			}
		})
	}
	asking.Wait()
	if len(yes) >= len(f.peers)/2+1 {
		slices.SortFunc(yes, func(a, b member) int { return slices.Index(f.peers, a.Addr) - slices.Index(f.peers, b.Addr) })
		f.log.Info("founding the cluster", "formation", p.Promise.Formation, "members", len(yes), "listed", len(f.peers))
		return f.keep(func(p *papers) {
			p.Formation, p.Generation, p.Found, p.Brings = p.Promise.Formation, 1, true, f.brings != nil
			p.Promise = &promise{p.Promise.Formation, p.Node, yes}
		})
	}
	// Not enough. Those who promised are let go, then this node's own promise.
	for _, m := range p.Promise.Members {
		if m.Node != p.Node {
			_, _, _ = f.ask(ctx, m.Addr, formAsk{Abort: &p.Promise.Formation})
		}
	}
	return f.keep(func(p *papers) { p.Promise = nil })
}
