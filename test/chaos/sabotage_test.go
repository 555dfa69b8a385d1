//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// What must never be is done here by hand, and behind the back of those who count
// on nodes: without this nobody would know that it would be noticed.
func TestSabotageIsNoticed(t *testing.T) {
	rig.NeedRoot(t)
	p, err := begin(rig.Bin(t), holdTime, episode{number: 1}, newTally(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.leave(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		name string
		do   func(p *play, s strike, n int) (func() error, error)
		want []string
	}{
		{"a second node has the address", secondHolder, []string{"two nodes answered for the address: ", "IPv6: two nodes answered for the address: "}},
		{"all are frozen, unseen", frozenUnseen, []string{"nobody held the address for ", "IPv6: nobody held the address for "}},
		{"a new cluster in place of the old", otherCluster, []string{"are not linearizable:", "came to web"}},
	} {
		k := kind{name: c.name, do: c.do}
		wrong := strings.Join(p.round(round{strikes: []strike{{number: 1, kind: &k, lasts: 1200 * ms}}}), "\n")
		for _, want := range c.want {
			if !strings.Contains(wrong, want) {
				t.Errorf("%s: got %q, want %q", c.name, wrong, want)
			}
		}
	}
}

// secondHolder configures the address on a node that stands by, whose packet filter
// would not let it answer.
func secondHolder(p *play, _ strike, _ int) (func() error, error) {
	n := p.Nodes[p.roles()[second]]
	p.Pen(n).Signal(syscall.SIGSTOP)
	_, err := n.Run(context.Background(), "sh", "-c", "nft flush ruleset; ip addr add "+lab.VIP.String()+"/32 dev eth0; ip addr add "+lab.VIP6.String()+"/128 dev eth0 nodad")
	return func() error {
		_, err := n.Run(context.Background(), "sh", "-c", "ip addr flush dev eth0 to "+lab.VIP.String()+"; ip -6 addr flush dev eth0 to "+lab.VIP6.String())
		p.Pen(n).Signal(syscall.SIGCONT)
		return err
	}, err
}

func frozenUnseen(p *play, _ strike, _ int) (func() error, error) {
	for _, n := range p.Nodes {
		n.Signal(syscall.SIGSTOP)
	}
	return func() error {
		for _, n := range p.Nodes {
			n.Signal(syscall.SIGCONT)
		}
		return nil
	}, nil
}

// otherCluster lets a cluster begin anew whose clients find their server
// stopped, one in three, so that they go elsewhere than before.
func otherCluster(p *play, _ strike, _ int) (func() error, error) {
	var errs []error
	for _, n := range p.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for n := range p.Nodes {
		_, err := p.end(n, func() {})
		errs = append(errs, err, p.Nodes[n].Wipe())
	}
	p.Servers[0].Stop()
	errs = append(errs, p.start(p.all()...), p.well())
	time.Sleep((clients + 20) * 5 * ms)
	return p.Servers[0].Start, errors.Join(errs...)
}
