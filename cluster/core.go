package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// core is raft with our detection, votes and lease: what the simulation runs,
// and what a Node is built round.
type core struct {
	id      string
	elector *elector
	trans   *transport
	links   *links
	raft    *raft.Raft

	log    *raftLog
	health *health // nil: nobody looks at the disk

	proposing sync.RWMutex // held for reading while an entry is handed to raft
	stuck     atomic.Bool  // raft did not end: the kernel holds a write
	shut      bool         // nothing is proposed: a transfer is under way; guarded by proposing
}

type coreConfig struct {
	id      string
	self    netip.AddrPort
	rank    rank
	hb      time.Duration
	quiet   time.Duration // silence after the start; zero only for a node without a past
	streams streams
	fsm     raft.FSM
	logs    raft.LogStore
	stable  raft.StableStore
	snaps   raft.SnapshotStore
	log     *slog.Logger
	// found is the configuration with which this node begins, if it has none.
	found *raft.Configuration
	tune  func(*rules)                           // of the simulation's controls
	where func(id string) (netip.AddrPort, bool) // newer addresses than raft's; may be nil
	// health is that of the disk under logs and stable; may be nil.
	health *health
}

// commitTimeout is how often a follower hears of the newest commits at least.
const commitTimeout = 20 * time.Millisecond

func newCore(c coreConfig) (*core, error) {
	e := newElector(c.id, c.rank, c.hb, c.quiet, c.log)
	if c.tune != nil {
		c.tune(e.rules)
	}
	lines := newRaftLog(c.log)
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: lines, DisableTime: true})
	k := &core{id: c.id, elector: e, links: newLinks(e, c.streams, c.log), log: lines, health: c.health}
	if c.health != nil {
		e.broken = func() bool { f := c.health.fault(time.Now()); return f != nil && f.blocked }
	}
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.id)
	// The net below our detection. Its heartbeats go out every tenth to fifth of it.
	rc.HeartbeatTimeout = c.hb * 3 / 2
	rc.ElectionTimeout = rc.HeartbeatTimeout
	rc.LeaderLeaseTimeout = c.hb / 2
	rc.CommitTimeout = commitTimeout
	rc.BatchApplyCh = true
	rc.ShutdownOnRemove = false
	rc.MaxAppendEntries = 64
	rc.TrailingLogs = 512
	rc.SnapshotThreshold = 2048
	rc.SnapshotInterval = 30 * time.Second
	rc.NoLegacyTelemetry = true
	rc.Logger = logger
	if c.found != nil {
		// The configuration needs no transport, only raft's idea of one.
		_, idle := raft.NewInmemTransport(raft.ServerAddress(c.self.String()))
		if err := raft.BootstrapCluster(rc, c.logs, c.stable, c.snaps, idle, *c.found); err != nil {
			return nil, fmt.Errorf("found cluster: %w", err)
		}
	}
	k.trans = newTransport(e, c.streams, c.self, logger)
	k.trans.where = c.where
	k.links.warm = func(ctx context.Context, to netip.AddrPort) { k.trans.net.spares.warm(ctx, to, c.hb/2) }
	e.ask, e.stand = k.links.ask, func() { k.trans.stand(c.id) }
	r, err := raft.NewRaft(rc, c.fsm, c.logs, c.stable, c.snaps, k.trans)
	if err != nil {
		_ = k.trans.Close()
		return nil, fmt.Errorf("start raft: %w", err)
	}
	k.raft = r
	e.raft.Store(r)
	return k, nil
}

// run detects and talks until ctx ends; then raft ends, too.
func (k *core) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { k.elector.watch(ctx) })
	all.Go(func() { k.links.run(ctx) })
	<-ctx.Done()
	k.log.stopping.Store(true)
	_ = k.trans.Close()
	if k.health != nil {
		// Nothing leaves this node any more, so nothing need be kept.
		k.health.close()
	}
	ended := make(chan struct{})
	go func() {
		_ = k.raft.Shutdown().Error() // it has none
		close(ended)
	}()
	late := time.NewTimer(diskPatience)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		// The kernel does not give back a write. The process may end nevertheless.
		k.stuck.Store(true)
	}
	all.Wait()
}

// outcome waits for what became of a request to raft. Raft forgets those that it
// has not taken out of its queue when it ends, so nobody may wait for ever.
func outcome(ctx context.Context, down <-chan struct{}, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-down:
		return os.ErrClosed
	}
}

// raftLog passes raft's warnings on, each kind at most every five seconds.
type raftLog struct {
	log      *slog.Logger
	stopping atomic.Bool // this node is

	mu   sync.Mutex
	last map[string]time.Time
}

func newRaftLog(log *slog.Logger) *raftLog { return &raftLog{log: log, last: map[string]time.Time{}} }

// usual is what raft warns of whenever a node starts, catches up or stops, and an
// end is what it says when this node stops.
var (
	usual = []string{
		errTooEarly.Error(), errFallen.Error(), "appendEntries rejected, sending older logs", "failed to get previous log", "duplicate requestVote from",
		"peer has newer term, stopping replication", "rejecting vote request since", "clearing log suffix", "refused: closed: shutting down", errMuted.Error(),
	}
	ends = []string{"use of closed network connection", "transport shutdown", "failed to decode incoming command", "raft is already shutdown"}
)

// level tells how much a line is worth.
func (l *raftLog) level(line string) slog.Level {
	in := func(s string) bool { return strings.Contains(line, s) }
	if slices.ContainsFunc(usual, in) || l.stopping.Load() && slices.ContainsFunc(ends, in) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func (l *raftLog) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	_, line, _ = strings.Cut(line, "] ")
	line = strings.TrimSpace(line)
	kind, _, _ := strings.Cut(line, ": ")
	level := l.level(line)
	kind = level.String() + kind
	l.mu.Lock()
	now := time.Now()
	fresh := now.Sub(l.last[kind]) >= 5*time.Second
	if fresh {
		if len(l.last) > 100 {
			clear(l.last)
		}
		l.last[kind] = now
	}
	l.mu.Unlock()
	if fresh {
		l.log.Log(context.Background(), level, "raft has news", "says", line)
	}
	return len(b), nil
}
