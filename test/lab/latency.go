//go:build linux

package lab

import (
	"slices"
	"time"
)

// Latency tells how long the clients that came between two moments, and were
// answered, waited from the connect to the answer: half of them at most median, and
// 95 of 100 at most p95. There are n of them, and others that were not answered.
func (w *Watch) Latency(from, to time.Time) (median, p95 time.Duration, n, others int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []time.Duration
	t := window{from.Sub(w.began), to.Sub(w.began)}
	for _, p := range w.probes {
		switch {
		case !t.has(p.start):
		case p.outcome == answered:
			all = append(all, p.end-p.start)
		default:
			others++
		}
	}
	if len(all) == 0 {
		return 0, 0, 0, others
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*95/100], len(all), others
}
