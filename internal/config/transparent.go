package config

import (
	"runtime"

	"pen/state"
)

// transparent looks at a service that connects to servers from its clients' addresses:
// whether that can have an effect here, and whether the answers find their way back.
func (a *analysis) transparent(s *state.Service) {
	at := place{s.Name, "transparent", 0}
	switch {
	case !s.Transparent:
		return
	case runtime.GOOS != "linux":
		a.wrong(at, "transparent: only Linux lets a program connect from an address that is not its own; the servers see pen's, or that of source")
		return
	case s.Source.IsValid():
		a.odd(at, "transparent has no effect: source comes first, and the servers see %v", s.Source)
		return
	}
	if a.Transparent == nil || a.broken {
		return
	}
	for _, err := range a.Transparent(s) {
		a.odd(at, "transparent: %v", err)
	}
}
