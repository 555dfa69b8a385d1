package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Refusal is what happened with one address for one reason.
type Refusal struct {
	Peer        netip.Addr
	Reason      Reason
	Detail      string // what differs, at the last time
	Node        ID     // what the peer called itself; zero: it did not come that far
	Dialed      bool   // we had called
	First, Last time.Time
	Count       uint64
}

// Bounds: an attacker makes neither the table nor the log grow.
const (
	refusalsMax    = 64
	refusalAgain   = time.Minute // one address, one reason: once in
	refusalsLogged = 10          // lines in
	refusalWindow  = 10 * time.Second
)

type refusalKey struct {
	peer   netip.Addr
	reason Reason
	dialed bool
}

type refusalEntry struct {
	Refusal
	logged time.Time
}

// refusals remembers, counts and logs who was refused.
type refusals struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	entries map[refusalKey]*refusalEntry
	total   [reasonEnd]uint64
	window  time.Time
	lines   int
	silent  uint64 // not logged since the last line
}

// add notes a refusal, and logs it if that says something new.
func (r *refusals) add(peer netip.Addr, e *RefusedError, dialed bool) {
	now := time.Now()
	r.mu.Lock()
	if e.Reason < reasonEnd { // a later version may have more
		r.total[e.Reason]++
	}
	entry := r.entry(refusalKey{peer, e.Reason, dialed}, now)
	entry.Detail, entry.Node, entry.Last = e.Detail, e.Hello.Node, now
	entry.Count++
	count, silent := entry.Count, r.silent
	loud := now.Sub(entry.logged) >= refusalAgain && r.line(now)
	if loud {
		entry.logged, r.silent = now, 0
	} else {
		r.silent++
	}
	r.mu.Unlock()
	if !loud || r.log == nil {
		return
	}
	args := []any{"peer", peer, "reason", e.Reason.String(), "detail", e.Detail, "by_peer", e.ByPeer, "count", count, "not_logged", silent}
	if !e.Hello.Node.IsZero() {
		args = append(args, "member", e.Hello.Name, "id", e.Hello.Node)
	}
	r.log.Log(context.Background(), e.Reason.level(), "cluster connection refused", args...)
}

// level: a mistake of the operator's is worth a warning, noise of the network is
// not.
func (r Reason) level() slog.Level {
	switch r {
	case DuplicateNode:
		return slog.LevelError
	case Closed, Itself:
		return slog.LevelDebug
	case NotTLS, NoCertificate, TooSlow, TooMuch:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// line tells whether one more line may be written now.
func (r *refusals) line(now time.Time) bool {
	if now.Sub(r.window) >= refusalWindow {
		r.window, r.lines = now, 0
	}
	r.lines++
	return r.lines <= refusalsLogged
}

// entry finds or makes room for one.
func (r *refusals) entry(k refusalKey, now time.Time) *refusalEntry {
	if e := r.entries[k]; e != nil {
		return e
	}
	if r.entries == nil {
		r.entries = map[refusalKey]*refusalEntry{}
	}
	if len(r.entries) >= refusalsMax {
		var oldest refusalKey
		var at time.Time
		for k, e := range r.entries {
			if at.IsZero() || e.Last.Before(at) {
				oldest, at = k, e.Last
			}
		}
		delete(r.entries, oldest)
	}
	e := &refusalEntry{Refusal: Refusal{Peer: k.peer, Reason: k.reason, Dialed: k.dialed, First: now}}
	r.entries[k] = e
	return e
}

func (r *refusals) list() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Refusal, 0, len(r.entries))
	for _, e := range r.entries {
		out = append(out, e.Refusal)
	}
	slices.SortFunc(out, func(a, b Refusal) int { return b.Last.Compare(a.Last) })
	return out
}

func (r *refusals) totals() map[Reason]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[Reason]uint64{}
	for reason, n := range r.total {
		if n > 0 {
			out[Reason(reason)] = n
		}
	}
	return out
}

// trouble logs that the port itself does not work, now and then.
func (r *refusals) trouble(err error) {
	r.mu.Lock()
	loud := r.line(time.Now())
	r.mu.Unlock()
	if loud && r.log != nil {
		r.log.Warn("cluster port can not accept", "err", err)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}
