package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pen/internal/config"
	"pen/state"
)

// seed is the command that brings what the files and the command line ask for
// into the state. A state that was restored, or that other nodes have made, has
// changes of the control port in it, which stay: it gets what the files ask for
// otherwise than they did when they were last read.
func (d *daemon) seed(want *state.View, by string) (state.Command, error) {
	have, before := d.state.View(), state.New()
	if len(have.Seed) > 0 {
		if res := before.ApplyBytes(have.Seed); res.Err != nil {
			return state.Command{}, fmt.Errorf("settings that were read last: %w", res.Err)
		}
	}
	ops := state.Merge(before.View(), want, have)
	remember, err := seedOf(want)
	if err != nil {
		return state.Command{}, err
	}
	if len(ops) > 0 || !bytes.Equal(remember.Seed, have.Seed) {
		ops = append(ops, remember)
	}
	// Another file may be read while this command is on its way.
	ops = slices.Insert(ops, 0, state.Op(state.Seeded{Sum: have.SeedSum()}))
	return state.Command{Time: d.clock.At(time.Now()), By: by, Ops: ops}, nil
}

// differences counts what a command of seed would change.
func differences(c state.Command) int { return len(c.Ops) - 1 }

// seedOf remembers the settings of v as what the files gave.
func seedOf(v *state.View) (state.SeedWith, error) {
	b, err := state.Command{Ops: state.Ops(v)}.Append(nil)
	return state.SeedWith{Seed: b}, err
}

// wanted is what a start with this command line and these statements of the file
// would ask for.
func (d *daemon) wanted(ctx context.Context, file []config.Statement) (*config.Plan, error) {
	p := config.Planner{View: state.New().View(), Local: config.Local{File: d.line.Local.File}, Now: time.Now()}
	return p.Plan(ctx, d.line.With(file))
}

// digest tells configurations apart, for people who compare nodes. What only one
// node's file should say is not in it.
func digest(v *state.View, m config.Membership) uint64 {
	b, err := state.Command{Ops: state.Ops(v)}.Append(nil)
	if err != nil {
		return 0
	}
	b = fmt.Appendf(b, "%q %v %v %v %v", m.Cluster, m.Peers, m.VIPs, m.Heartbeat, m.Preempt)
	sum := sha256.Sum256(b)
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// reload takes over what has changed in this node's file since any node's was
// last read, as one command. After that the others' reload of the same file finds
// nothing to do. What counts only from the next start is told.
func (m *member) reload(ctx context.Context, by, file string, statements []config.Statement) (note string, err error) {
	plan, err := m.wanted(ctx, statements)
	if err != nil {
		return "", err
	}
	if err := m.examineList(plan); err != nil {
		return "", err
	}
	if err := m.certificates(plan.View); err != nil {
		return "", err
	}
	changes, err := m.take(ctx, by, plan.View, setAll(statements))
	if err != nil {
		return "", err
	}
	if err := m.proxy.ReloadTLS(); err != nil {
		return "", err
	}
	told, err := m.takeList(plan.Local.Membership)
	if err != nil {
		told = append(told, err.Error()) // the rest is in force
	}
	if words := m.local.Load().Differs(plan.Local.Membership); len(words) > 0 {
		told = append(told, strings.Join(words, ", ")+": as before until pen is started again")
		m.log.Warn("the file has changed what counts only at the start", "words", words)
	}
	m.want = plan.View
	m.node.SetDigest(digest(plan.View, plan.Local.Membership))
	m.log.Info("settings read again", "file", file, "by", by, "changes", changes)
	return strings.Join(told, "\n"), nil
}

// retakes is how often a file is merged anew because another node's was read at
// the same time.
const retakes = 10

// take proposes what a file asks for otherwise than the last one did, and tells
// how much that was.
func (m *member) take(ctx context.Context, by string, want *state.View, local func(*config.Local)) (changes int, err error) {
	for range retakes {
		before := m.state.View().SeedSum()
		c, err := m.seed(want, by)
		if err != nil {
			return 0, err
		}
		// Also a command that changes nothing is proposed: this node may be behind.
		err = m.propose(ctx, by, c.Ops, local)
		if err == nil {
			return differences(c), nil
		}
		if m.state.View().SeedSum() == before {
			return 0, err
		}
	}
	return 0, errors.New("other files are read all the time: try again")
}

// found gives a new cluster its settings. In one that has some this node
// compares them with its file.
func (m *member) found(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-m.node.Formed():
	}
	merged := !m.node.Brought()
	for {
		leases, views := m.node.Changed(), m.node.Watch()
		before := m.node.View().SeedSum()
		seeded := len(m.node.View().Seed) > 0
		if seeded && merged {
			break
		}
		if leader, _ := m.node.Leader(); seeded && leader != "" && leader != m.node.ID() {
			break // who leads now has no file to merge; the difference will be told
		}
		// A state that a single node brings along comes first.
		if l := m.node.Lease(); l.Valid && l.Current && (seeded || merged) {
			if err := m.seedCluster(ctx); err != nil && m.node.View().SeedSum() != before {
				continue // another node was quicker
			} else if err != nil {
				m.log.Warn("the settings of the file are not the cluster's yet", "err", err)
			} else {
				merged = true
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-leases:
		case <-views:
		case <-time.After(m.holder.heartbeat):
		}
	}
	select {
	case <-ctx.Done():
	case <-m.node.Current(): // before that the view may be older
		m.settle()
	}
}

// seedCluster makes this node's file the settings of the cluster, unless another
// node's was quicker.
func (m *member) seedCluster(ctx context.Context) error {
	c, err := m.seed(m.want, "start")
	if err != nil {
		return err
	}
	res, err := m.node.Propose(ctx, c)
	return errors.Join(err, res.Err)
}

// settle takes the cluster's settings as this node's, and tells if the file says
// something else.
func (m *member) settle() {
	c, err := m.seed(m.want, "")
	switch {
	case err != nil:
		m.log.Error("compare the settings with the file", "err", err)
	case differences(c) > 0:
		m.log.Warn("the file differs from the cluster's settings, which count; reload takes the file's", "differences", differences(c))
	}
	m.settled.Store(true)
	select {
	case m.news <- struct{}{}:
	default:
	}
}
