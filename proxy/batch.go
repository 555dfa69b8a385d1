package proxy

import (
	"cmp"
	"context"
	"slices"
	"time"

	"pen/state"
)

// How the batcher paces itself. One proposal at a time groups by itself: while
// one is under way, the next grows.
const (
	batchMax   = 4096                  // clients in a proposal
	batchPause = 20 * time.Millisecond // from one proposal to the next
	batchFirst = 2 * time.Millisecond  // for company, when there was nothing to do
	batchRetry = time.Second           // the longest pause after a failure
	batchWait  = 10 * time.Second      // for a proposal
)

// run carries the overlay into the table until ctx ends; then it carries over
// what is left, for a second at most, and returns.
func (m *memory) run(ctx context.Context) {
	for pause := batchPause; ; {
		begun := time.Now()
		switch n, err := m.flush(ctx); {
		case err != nil:
			pause = min(2*pause, batchRetry)
		case n == 0:
			pause = 0 // nothing to wait for but the next client
		default:
			pause = batchPause
		}
		if pause == 0 {
			select {
			case <-m.wake:
				pause = batchPause
				if sleep(ctx, batchFirst) {
					continue
				}
			case <-ctx.Done():
			}
		} else if sleep(ctx, pause-time.Since(begun)) {
			continue
		}
		m.finish(ctx)
		return
	}
}

// finish flushes what is left when ctx has ended.
func (m *memory) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for {
		n, err := m.flush(ctx)
		if err != nil {
			size, _ := m.figures(m.clock.At(time.Now()))
			m.log.Warn("latest clients are not recorded", "service", m.service, "clients", size, "err", err)
			return
		}
		if n == 0 {
			return
		}
	}
}

// sleep waits for d, and returns false if ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// flush proposes one batch and returns how many clients were in it.
func (m *memory) flush(ctx context.Context) (int, error) {
	m.flushing.Lock()
	defer m.flushing.Unlock()
	now := m.clock.At(time.Now())
	batch, visits := m.collect(now)
	if len(batch) == 0 {
		return 0, nil
	}
	m.tellOverflow()
	limited, cancel := context.WithTimeout(ctx, batchWait)
	defer cancel()
	r, err := m.propose(limited, state.Command{
		Time: now, Ops: []state.Op{state.Visits{Service: m.id, Clients: visits}},
	})
	if err != nil && r.Err == nil {
		m.failures.Add(1)
		m.land(batch)
		if ctx.Err() == nil {
			m.tellFailure(err)
		}
		return len(batch), err
	}
	m.tellFailure(nil)
	if r.Err != nil { // and it would be refused again
		m.refused.Add(uint64(len(batch)))
		m.log.Warn("clients are not recorded", "service", m.service, "clients", len(batch), "err", r.Err)
	}
	m.settle(batch)
	return len(batch), nil
}

// tellFailure logs the first proposal that fails, and the first that does not
// any more. The caller holds flushing.
func (m *memory) tellFailure(err error) {
	switch {
	case err != nil && !m.failing:
		m.log.Warn("clients are not recorded; trying again", "service", m.service, "err", err)
	case err == nil && m.failing:
		m.log.Info("clients are recorded again", "service", m.service)
	}
	m.failing = err != nil
}

// tellOverflow logs that clients were not recorded because there were too many
// of them, once a minute at most. The caller holds flushing.
func (m *memory) tellOverflow() {
	if n := m.overflow.Load(); n > m.spilled && m.full.due(time.Now(), lackWarning) {
		m.log.Warn("too many clients wait to be recorded; more are served but not remembered",
			"service", m.service, "visits", n-m.spilled)
		m.spilled = n
	}
}

// handOver carries over what is in the overlay now. Others may come meanwhile;
// they are not waited for.
func (m *memory) handOver(ctx context.Context) error {
	m.mu.Lock()
	left := len(m.index)
	m.mu.Unlock()
	for left > 0 {
		n, err := m.flush(ctx)
		if n == 0 || err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// collect makes the next batch: the clients that came least recently, in order.
// Who is new is told first in the order of arrival, if that is another one:
// slots are given out by it, as in the original.
func (m *memory) collect(now state.Time) (batch []int32, visits []state.Visit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := min(len(m.index), batchMax)
	batch, visits = make([]int32, 0, size), make([]state.Visit, 0, size)
	var fresh []arrival
	for i := m.head; i >= 0 && len(batch) < size; i = m.node(i).next {
		n := m.node(i)
		n.flying, n.changed = true, false
		v := state.Visit{Client: n.client, Server: n.server, Ago: uint32(max(0, now/1000-n.used/1000))}
		if n.keep {
			v.Server = state.Keep
		}
		if n.fresh {
			fresh = append(fresh, arrival{n.born, v})
		}
		batch, visits = append(batch, i), append(visits, v)
	}
	byBirth := func(a, b arrival) int { return cmp.Compare(a.born, b.born) }
	if !slices.IsSortedFunc(fresh, byBirth) {
		slices.SortFunc(fresh, byBirth)
		arrivals := make([]state.Visit, 0, len(fresh)+len(visits))
		for _, a := range fresh {
			arrivals = append(arrivals, a.visit)
		}
		visits = append(arrivals, visits...)
	}
	return batch, visits
}

// arrival is a client that the table does not have.
type arrival struct {
	born  uint64
	visit state.Visit
}

// land takes back a batch that did not get through.
func (m *memory) land(batch []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range batch {
		n := m.node(i)
		n.flying, n.changed = false, true
	}
}

// settle ends a batch that the table has: what has not changed since leaves the
// overlay, and counters move to the slots. Piece by piece, so that the data plane
// does not wait for all of it.
func (m *memory) settle(batch []int32) {
	table, now := m.table.Load(), m.clock.At(time.Now())
	for piece := range slices.Chunk(batch, 64) {
		m.mu.Lock()
		for _, i := range piece {
			m.settleOne(i, table, now)
		}
		m.mu.Unlock()
	}
}

func (m *memory) settleOne(i int32, table *state.Table, now state.Time) {
	n := m.node(i)
	if e, ok := table.Lookup(n.client); ok {
		m.tallies.add(e.Slot, fingerprint(n.client), n.tally, n.fresh)
		n.tally, n.fresh = tally{}, false
	}
	n.flying = false
	if n.changed {
		n.since = now
		return
	}
	m.remove(i)
}
