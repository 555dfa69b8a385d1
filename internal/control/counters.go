package control

import "sync/atomic"

// Counters tell what became of the connections since the start.
type Counters struct {
	Commands   uint64 // handed to the handler
	Denied     uint64 // by the access list
	Full       uint64 // closed at once: every place was being answered
	Displaced  uint64 // idle, and lost the place to a newcomer
	Silent     uint64 // sent nothing in time
	Unfinished uint64 // were still sending when the time was over
	Long       uint64 // sent too long a command
	Broken     uint64 // died before the command was whole
	Slow       uint64 // did not take the reply
	Panics     uint64 // of the handler
	Accept     uint64 // errors of accept
}

// counters are the live ones.
type counters struct {
	commands, denied, full, displaced, silent, unfinished, long, broken, slow, panics, accept atomic.Uint64
}

// Counters may be called at any time, from any goroutine.
func (s *Server) Counters() Counters {
	c := &s.counters
	return Counters{
		Commands: c.commands.Load(), Denied: c.denied.Load(), Full: c.full.Load(),
		Displaced: c.displaced.Load(), Silent: c.silent.Load(), Unfinished: c.unfinished.Load(),
		Long: c.long.Load(), Broken: c.broken.Load(), Slow: c.slow.Load(),
		Panics: c.panics.Load(), Accept: c.accept.Load(),
	}
}
