package proxy

import "time"

// patient is how long figures wait for the loops.
const patient = 100 * time.Millisecond

// everywhere runs f in every loop and returns the answers. A loop that does not
// answer in time is left out: figures come late or not at all, never torn.
func everywhere[T any](e *engine, f func(*loop) T) []T {
	loops := e.running()
	answers := make(chan T, len(loops))
	asked := 0
	for _, l := range loops {
		if l.post(func(l *loop) { answers <- f(l) }) {
			asked++
		}
	}
	late := time.NewTimer(patient)
	defer late.Stop()
	all := make([]T, 0, asked)
	for range asked {
		select {
		case a := <-answers:
			all = append(all, a)
		case <-late.C:
			return all
		}
	}
	return all
}

// each calls do for every connection of f in the loop.
func (l *loop) each(f *front, do func(*conn)) {
	l.conns.all(func(c *conn) {
		if c.front == f {
			do(c)
		}
	})
}

// credit brings the counters of f's servers and clients up to date.
func (e *engine) credit(f *front) {
	everywhere(e, func(l *loop) struct{} {
		l.each(f, l.credit)
		return struct{}{}
	})
	e.secure.credit(f)
}

// retime looks at the timers of f's connections anew, after the settings that
// they depend on have changed.
func (e *engine) retime(f *front) {
	for _, l := range e.running() {
		l.post(func(l *loop) {
			l.each(f, func(c *conn) {
				if t := c.deadline(); t != 0 && c.phase != phaseStarved && c.phase != phaseBusy {
					l.wheel.add(&l.conns, c, t)
				}
			})
		})
	}
	e.secure.retime(f)
}

func (e *engine) connections(f *front) (all []ConnStats) {
	all = e.secure.connections(f)
	for _, some := range everywhere(e, func(l *loop) (conns []ConnStats) {
		l.each(f, func(c *conn) { conns = append(conns, c.stats()) })
		return conns
	}) {
		all = append(all, some...)
	}
	return all
}

// connection returns the connection of f in a slot, if there is one.
func (e *engine) connection(f *front, slot int) (ConnStats, bool) {
	for _, found := range everywhere(e, func(l *loop) (found *ConnStats) {
		l.each(f, func(c *conn) {
			if int(c.slot) == slot {
				s := c.stats()
				found = &s
			}
		})
		return found
	}) {
		if found != nil {
			return *found, true
		}
	}
	return e.secure.connection(f, slot)
}

// closeConnection closes the connection of f in a slot, if there is one.
func (e *engine) closeConnection(f *front, slot int) bool {
	for _, closed := range everywhere(e, func(l *loop) (closed bool) {
		l.each(f, func(c *conn) {
			if int(c.slot) == slot {
				l.end(c, ClosedByOperator)
				closed = true
			}
		})
		return closed
	}) {
		if closed {
			return true
		}
	}
	return e.secure.closeConnection(f, slot)
}

// held returns how many pipes and buffers are in use.
func (e *engine) held() (pipes, buffers int) {
	for _, l := range e.running() {
		pipes += int(l.pool.usedPipes.Load())
		buffers += int(l.pool.heldBuffers.Load())
	}
	return pipes, buffers
}
