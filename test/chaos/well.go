//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pen/test/lab"
)

// wellTime is how long a cluster may take to be well after everything was healed.
const wellTime = 30 * time.Second

// slowTime is after how long it is told what keeps it from being well.
const slowTime = 3 * time.Second

// status is what `cluster json` says, as far as it matters here.
type status struct {
	Formation string `json:"formation"`
	Leader    string `json:"leader"`
	Quorum    bool   `json:"quorum"`
	Settled   bool   `json:"settled"`
	Voters    int    `json:"voters"`
	Living    int    `json:"living"`
	Out       string `json:"out"` // why this node is not part of the cluster
	// Generation grows when the cluster is recovered.
	Generation uint64   `json:"generation"`
	Members    []member `json:"members"`
	err        error
}

type member struct {
	Addr     string `json:"addr"`
	Role     string `json:"role"`
	Alive    bool   `json:"alive"`
	Eligible bool   `json:"eligible"`
	Why      string `json:"why"`
	Holding  bool   `json:"holding"`
	Self     bool   `json:"self"`
}

// damped tells that its cable has failed too often lately: it is as well as it can
// be, for some seconds.
func (m member) damped() bool { return !m.Eligible && strings.HasPrefix(m.Why, "the carrier was lost") }

// damped is about the node that says this.
func (s status) damped() bool {
	return slices.ContainsFunc(s.Members, func(m member) bool { return m.Self && m.damped() })
}

// gone is what a node was before its data was wiped: others remember it a while.
func (m member) gone() bool { return m.Role == "absent" && !m.Alive }

// members are those of the cluster.
func (s status) members() (n int) {
	for _, m := range s.Members {
		if !m.gone() {
			n++
		}
	}
	return n
}

// statuses asks all nodes at once.
func (p *play) statuses() []status {
	all := make([]status, len(p.Nodes))
	var wg sync.WaitGroup
	for n := range p.Nodes {
		wg.Go(func() {
			text, err := p.ask(context.Background(), n, "cluster", "json")
			if err == nil {
				err = json.Unmarshal([]byte(text), &all[n])
			}
			all[n].err = err
		})
	}
	wg.Wait()
	return all
}

// well waits until all nodes say that all are there and that one of them holds the
// address, the one that answers for it.
func (p *play) well() error {
	why := ""
	began, told := time.Now(), false
	for time.Since(began) < wellTime {
		if why != "" {
			time.Sleep(20 * ms)
		}
		if !told && time.Since(began) > slowTime {
			told = true
			p.say("         not well for %v: %s", slowTime, why)
		}
		all := p.statuses()
		if two := twoClusters(all); two != "" {
			return fmt.Errorf("two clusters: %s", two)
		}
		if why = unwell(all, p.Nodes); why != "" {
			continue
		}
		n := p.owner()
		if n < 0 || !strings.HasPrefix(holderOf(all[0]), p.Nodes[n].Addr.String()+":") {
			why = fmt.Sprintf("%s holds the address, as the nodes say, and node number %d answers for it", holderOf(all[0]), n+1)
			continue
		}
		p.world.note(func() {
			for i := range p.world.nodes {
				m := &p.world.nodes[i]
				m.sure, m.unfit = true, all[i].damped()
			}
			p.world.keeper = n
		})
		return nil
	}
	return fmt.Errorf("the cluster is not well %v after everything was healed: %s", wellTime, why)
}

// twoClusters tells of two formations that both have a leader.
func twoClusters(all []status) string {
	led := ""
	for _, s := range all {
		switch {
		case s.err != nil || s.Leader == "" || !s.Quorum:
		case led == "":
			led = s.Formation
		case led != s.Formation:
			return led + " and " + s.Formation
		}
	}
	return ""
}

func holderOf(s status) string {
	for _, m := range s.Members {
		if m.Holding {
			return m.Addr
		}
	}
	return ""
}

// unwell is what is not as it should be; empty: all is well.
func unwell(all []status, nodes []*lab.Node) string {
	for i, s := range all {
		name := nodes[i].Name
		switch {
		case s.err != nil:
			return fmt.Sprintf("%s can not be asked: %v", name, s.err)
		case !s.Quorum || !s.Settled || s.members() != len(nodes):
			return fmt.Sprintf("%s has no quorum, or not the right members: %+v", name, s)
		case s.Formation != all[0].Formation:
			return fmt.Sprintf("%s is of another cluster than %s", name, nodes[0].Name)
		case holderOf(s) == "" || holderOf(s) != holderOf(all[0]):
			return fmt.Sprintf("%s says that %q holds the address, %s that %q does", name, holderOf(s), nodes[0].Name, holderOf(all[0]))
		}
		for _, m := range s.Members {
			if m.gone() {
				continue
			}
			if !m.Alive || m.Role != "witness" && (m.Role != "voter" || !m.Eligible && !m.damped()) {
				return fmt.Sprintf("%s says of %s: %+v", name, m.Addr, m)
			}
		}
	}
	return ""
}

// equalTime is how long the nodes may take to have the same state.
const equalTime = 10 * time.Second

// equal compares the state of all nodes, while no client comes and nobody writes.
func (p *play) equal() []string {
	p.writer.pause()
	p.watch.Rest(true)
	defer p.watch.Rest(false)
	var all []string
	for end := time.Now().Add(equalTime); time.Now().Before(end); time.Sleep(10 * ms) {
		all = p.digests()
		same := all[0] != ""
		for _, d := range all {
			same = same && d == all[0]
		}
		if same {
			return nil
		}
	}
	return []string{"the nodes do not have the same state:\n" + strings.Join(all, "")}
}

func (p *play) digests() []string {
	all := make([]string, len(p.Nodes))
	var wg sync.WaitGroup
	for n := range p.Nodes {
		wg.Go(func() { all[n], _ = p.ask(context.Background(), n, "cluster", "digest") })
	}
	wg.Wait()
	return all
}
