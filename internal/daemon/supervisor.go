package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// supervisorEnv names the socket on which a service manager wants to hear how
// its service is (systemd's Type=notify).
const supervisorEnv = "NOTIFY_SOCKET"

// supervisorLook is how often the manager is told what has changed.
const supervisorLook = time.Second

// phase is where this process is in its life.
type phase uint8

const (
	phaseReady     phase = iota // it does all that it can do now
	phaseReloading              // the file is read again
	phaseStopping
)

// state is the word of the service manager for the phase.
func (p phase) state() string {
	switch p {
	case phaseReloading:
		return "RELOADING=1"
	case phaseStopping:
		return "STOPPING=1"
	}
	return "READY=1"
}

// supervisor tells a service manager how this process is. It never waits: what
// does not find room is said again at the next look. Nil tells nobody.
type supervisor struct {
	send func(text string) error
	// now is the monotonic clock of the system, in microseconds.
	now func() int64

	mu    sync.Mutex // guards what is below, and that words leave in their order
	phase phase
	told  string // what was said last
}

// keep tells how things are, if that is news. While something else goes on
// there is no other news.
func (s *supervisor) keep(status string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == phaseReady {
		s.tell(status)
	}
}

// enter begins a phase. The last one is never left.
func (s *supervisor) enter(p phase, status string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseStopping {
		s.phase = p
		s.tell(status)
	}
}

func (s *supervisor) tell(status string) {
	// One line, and short enough for a line of `systemctl status`.
	const longest = 256
	status = strings.ReplaceAll(status, "\n", "; ")
	text := s.phase.state() + "\nSTATUS=" + strings.ToValidUTF8(status[:min(len(status), longest)], "")
	if text == s.told {
		return
	}
	whole := text
	if s.phase == phaseReloading {
		// Without the time the manager could take an answer for that of an
		// earlier reload.
		whole += fmt.Sprintf("\nMONOTONIC_USEC=%d", s.now())
	}
	if s.send(whole) == nil {
		s.told = text
	}
}

// supervise keeps the service manager informed until ctx ends. The first word is
// that the service is ready: everything is open and runs. A node that waits for
// others is ready, too: who starts nodes one after the other would wait for ever.
func (d *daemon) supervise(ctx context.Context) error {
	if d.supervisor == nil {
		return nil
	}
	look := time.NewTicker(supervisorLook)
	defer look.Stop()
	for {
		d.supervisor.keep(d.condition())
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// reloading tells that the file is read again. The function that it returns
// tells the end of it.
func (d *daemon) reloading() (done func()) {
	if d.supervisor == nil {
		return func() {}
	}
	d.supervisor.enter(phaseReloading, "reading the settings again")
	return func() { d.supervisor.enter(phaseReady, d.condition()) }
}

// condition is how this process is, in a line.
func (d *daemon) condition() string {
	if d.member == nil {
		return "serving"
	}
	return d.member.condition()
}

func (m *member) condition() string {
	p := m.picture()
	switch {
	case p.Voters == 0 || !p.Quorum:
		return p.quorum()
	case m.self.Witness:
		return "a witness, which votes and holds no address"
	case !p.Settled:
		return "waiting for the cluster's settings"
	case m.vip == nil:
		return "serving, as a node of cluster " + p.Cluster
	case m.since.Load() != nil:
		return fmt.Sprintf("holds the address, term %d", m.term.Load())
	}
	if fit, why := m.fit(); !fit {
		return "can not take the address: " + why
	}
	return "stands by; " + p.who()
}

// who is the holder, as far as is known.
func (p *picture) who() string {
	for i := range p.Members {
		if m := &p.Members[i]; m.Holding && m.Alive {
			return p.nameOf(m) + " holds the address"
		}
	}
	return "nobody is known to hold the address"
}
