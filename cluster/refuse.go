package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Refusal is what happened with one address for one reason.
type Refusal struct {
	Peer   netip.Addr `json:"peer"`
	Reason Reason     `json:"reason"`
	Detail string     `json:"detail,omitempty"` // what differs, at the last time
	Node   ID         `json:"node"`             // what the peer called itself; zero: it did not come that far
	Dialed bool       `json:"dialed"`           // we had called, at the last time
	First  time.Time  `json:"first"`
	Last   time.Time  `json:"last"`
	Count  uint64     `json:"count"`
}

// String is for people: who, how often, and why.
func (r Refusal) String() string {
	s := r.Peer.String()
	if r.Count != 1 {
		s += fmt.Sprintf(", %d times", r.Count)
	}
	s += ": " + r.Reason.String()
	if r.Detail != "" {
		s += ": " + r.Detail
	}
	return s
}

// merge takes in what happened with the same address for the same reason when
// the other end had called.
func (r Refusal) merge(o Refusal) Refusal {
	if o.Last.After(r.Last) {
		r, o = o, r
	}
	r.Count += o.Count
	r.First = earlier(r.First, o.First)
	r.Detail = cmp.Or(r.Detail, o.Detail)
	r.Node = cmp.Or(r.Node, o.Node)
	return r
}

// Bounds: an attacker makes neither the table nor the log grow, nor the noise
// push out what somebody has to mend.
const (
	refusalsMax  = 32          // of noise; and as many of the rest
	refusalAgain = time.Minute // one address, one reason: logged once in
	linesMax     = 10          // logged in
	linesWindow  = 10 * time.Second
)

// lineLimit bounds what is logged because of others.
type lineLimit struct {
	since time.Time
	lines int
}

// allow tells whether one more line may be written now.
func (l *lineLimit) allow(now time.Time) bool {
	if now.Sub(l.since) >= linesWindow {
		l.since, l.lines = now, 0
	}
	l.lines++
	return l.lines <= linesMax
}

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
	lines   lineLimit
	silent  uint64 // not logged since the last line
}

// add notes a refusal, and logs it if that says something new.
func (r *refusals) add(peer netip.Addr, e *RefusedError, dialed bool) {
	now := time.Now()
	r.mu.Lock()
	if e.Reason < reasonEnd { // a later version may have more
		r.total[e.Reason]++
	}
	key := refusalKey{peer, e.Reason, dialed}
	if e.Reason == BadPacket {
		key.peer = netip.Addr{} // whose address it bears is anybody's guess
	}
	entry := r.entry(key, now)
	entry.Peer, entry.Detail, entry.Node, entry.Last = peer, e.Detail, e.Hello.Node, now
	entry.Count++
	count, silent := entry.Count, r.silent
	loud := now.Sub(entry.logged) >= refusalAgain && r.lines.allow(now)
	if loud {
		entry.logged, r.silent = now, 0
	} else {
		r.silent++
	}
	r.mu.Unlock()
	if !loud {
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
	switch {
	case r == DuplicateNode:
		return slog.LevelError
	case r == Closed || r == Itself:
		return slog.LevelDebug
	case r.noise():
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// noise is what anybody can make us note.
func (r Reason) noise() bool {
	switch r {
	case NotTLS, NoCertificate, TooSlow, TooMuch, TooMany, BadPacket, Closed, Itself:
		return true
	}
	return false
}

// entry finds or makes room for one.
func (r *refusals) entry(k refusalKey, now time.Time) *refusalEntry {
	if e := r.entries[k]; e != nil {
		return e
	}
	if r.entries == nil {
		r.entries = map[refusalKey]*refusalEntry{}
	}
	var oldest *refusalEntry
	var at refusalKey
	n := 0
	for o, e := range r.entries {
		if o.reason.noise() != k.reason.noise() {
			continue
		}
		n++
		if oldest == nil || e.Last.Before(oldest.Last) {
			oldest, at = e, o
		}
	}
	if n >= refusalsMax {
		delete(r.entries, at)
	}
	e := &refusalEntry{Refusal: Refusal{Reason: k.reason, Dialed: k.dialed, First: now}}
	r.entries[k] = e
	return e
}

// list has one entry for each address and reason.
func (r *refusals) list() []Refusal {
	r.mu.Lock()
	all := map[refusalKey]Refusal{}
	for k, e := range r.entries {
		k.dialed = false
		if o, ok := all[k]; ok {
			all[k] = o.merge(e.Refusal)
		} else {
			all[k] = e.Refusal
		}
	}
	r.mu.Unlock()
	return slices.SortedFunc(maps.Values(all), func(a, b Refusal) int { return b.Last.Compare(a.Last) })
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
	loud := r.lines.allow(time.Now())
	r.mu.Unlock()
	if loud {
		r.log.Warn("cluster port can not accept", "err", err)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}
