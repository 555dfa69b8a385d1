package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// recovery is a request that take carries out between two lives of raft.
type recovery struct {
	by   string
	done chan error // has room for the outcome; nil: nobody asks, another's recovery is to be taken up
}

// Recover makes this node the only member of a new generation of its cluster,
// with the state that it has: what is left to do when a majority is lost for good.
// Confirm has to be the name of the cluster. The members of before are refused
// from then on, until their data is wiped. By is who wants it, for the record.
//
// It is an error while a majority is heard, or another node that is heard knows
// more than this one. Whether those who are not heard are dead nobody can tell
// from here: if they are not, two nodes may hold the address.
func (n *Node) Recover(ctx context.Context, by, confirm string) error {
	if err := n.recoverable(confirm); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	r := recovery{by, make(chan error, 1)}
	select {
	case n.recoveries <- r:
	case <-ctx.Done():
		return fmt.Errorf("recover: %w", ctx.Err())
	case <-n.down:
		return fmt.Errorf("recover: %w", errStopping)
	}
	select {
	case err := <-r.done:
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		return nil
	case <-n.down:
		return fmt.Errorf("recover: %w", errStopping)
	}
}

// recoverable tells why a recovery is refused.
func (n *Node) recoverable(confirm string) error {
	s := n.Status()
	if s.Formation.IsZero() || s.Voters == 0 {
		return errors.New("this node is not part of a cluster, and has nothing to recover; to take part, it needs one of the nodes that are")
	}
	var self MemberStatus
	var lost []string
	for _, m := range s.Members {
		switch {
		case m.Self:
			self = m
		case m.Role != roleAbsent:
			lost = append(lost, m.label())
		}
	}
	switch {
	case self.Role == roleAbsent || self.ID.IsZero():
		return errors.New("this node is not a member of the cluster; recover on one that is")
	case n.behind() != "":
		return errors.New(n.behind())
	case s.Quorum:
		return fmt.Errorf("there is a quorum, %d of %d alive: nothing is lost; a single node is taken out with remove", s.Living, s.Voters)
	}
	for _, m := range s.Members {
		if !m.Self && m.Alive && m.Role != roleAbsent && m.Applied > s.Last {
			return fmt.Errorf("%s knows more (entry %d) than this node (entry %d): recover there; if that one is to be lost, stop it first", m.label(), m.Applied, s.Last)
		}
	}
	if confirm != s.Cluster {
		return fmt.Errorf("this node would go on alone with what it has (entry %d), and what others have agreed on beyond that is lost; "+
			"%s would be refused until their data is wiped. Make sure that pen runs on none of them: two nodes could hold the address. To do it, give the cluster's name: cluster recover %s",
			s.Last, orNobody(lost), s.Cluster)
	}
	return nil
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// begin writes down that a recovery is to happen, once and for all: if the process
// dies, the next start goes on with it. The others see the generation from now on.
func (n *Node) begin(r recovery) error {
	err := n.former.keep(func(p *papers) { p.Generation, p.Recover = nextGeneration(p.Generation), true })
	if err != nil {
		return err
	}
	p := n.former.now()
	n.log.Warn("the cluster is recovered: this node goes on alone, and the others are refused until their data is wiped", "generation", ordinal(p.Generation), "by", r.by)
	n.wire.SetFormation(p.Formation, p.Generation)
	return nil
}

// wipe is what makes a node a new one.
const wipe = "the directory cluster in its data_dir"

// notice tells of a peer that belongs to a later generation. Its certificate is
// one of the cluster's key.
func (w *Wire) notice(r *RefusedError) {
	if w.later == nil || r == nil || r.Reason != OtherFormation {
		return
	}
	if ours := w.Hello(); ours.Formation == r.Hello.Formation && ours.Generation < r.Hello.Generation {
		w.later(r.Hello)
	}
}

// reduce makes this node raft's only member, if a recovery is to happen. Raft does
// not run. Its log becomes a snapshot, so that no change of members is left in it.
func (n *Node) reduce() error {
	p := n.former.now()
	if !p.Recover {
		return nil
	}
	start := time.Now()
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(p.Node.String())
	rc.Logger, rc.NoLegacyTelemetry = n.logger, true
	_, idle := raft.NewInmemTransport(raft.ServerAddress(n.cfg.Self.String()))
	only := raft.Configuration{Servers: []raft.Server{{ID: rc.LocalID, Address: raft.ServerAddress(n.cfg.Self.String())}}}
	// Another machine than the node's: that one goes on answering meanwhile.
	if err := raft.RecoverCluster(rc, newFSM(newMachine()), n.logs, n.logs, n.snaps, idle, only); err != nil {
		return fmt.Errorf("recover the cluster: %w", err)
	}
	if err := n.former.keep(func(p *papers) { p.Recover = false }); err != nil {
		return err
	}
	n.log.Info("recovered", "generation", ordinal(p.Generation), "took", time.Since(start).Round(time.Millisecond))
	return nil
}
