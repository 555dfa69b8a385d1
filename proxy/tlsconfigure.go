package proxy

import (
	"errors"
	"fmt"

	"pen/state"
)

// identityTLS is what a terminator was made for.
type identityTLS struct {
	service string
	set     state.TLS
}

func ofTLS(s *state.Service) identityTLS { return identityTLS{s.Name, s.TLS} }

// CheckTLS tells what keeps this machine from talking TLS as a service's settings
// ask: a file that does not read, a key of another certificate. Nil if they ask
// for no TLS.
func CheckTLS(s *state.Service) error {
	if s.TLS.Certificate == "" {
		return nil
	}
	_, err := newTerminator(mute, s, &ticketRing{})
	return err
}

// ReloadTLS reads the files of all certificates again that have changed. What is
// no good stays as it was, and the error says what and why. Otherwise changed files
// are noticed by themselves, within a second of a client's coming.
func (p *Proxy) ReloadTLS() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, f := range *p.fronts.Load() {
		if t := f.secure.Load(); t != nil {
			if err := t.reload(); err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", f.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// prepareTLS reads what the services of v need and what is not there yet. The
// caller holds mu.
func (p *Proxy) prepareTLS(v *state.View) (map[identityTLS]*terminator, error) {
	fresh := map[identityTLS]*terminator{}
	for _, s := range v.Services {
		id := ofTLS(s)
		if s.TLS.Certificate == "" || p.terminator(id) != nil {
			continue
		}
		t, err := newTerminator(p.log, s, &p.ring)
		if err != nil {
			return nil, inService(s, err)
		}
		fresh[id] = t
	}
	return fresh, nil
}

// inService names the service that an error is about, if there may be others.
func inService(s *state.Service, err error) error {
	if s.Name == state.DefaultService {
		return err
	}
	return fmt.Errorf("service %s: %w", s.Name, err)
}

// terminator finds the one made for id, if it is good. The caller holds mu.
func (p *Proxy) terminator(id identityTLS) *terminator {
	if t := p.terminators[id]; t != nil {
		return t
	}
	if f := p.front(id.service); f != nil {
		if t := f.secure.Load(); t != nil && t.main != nil && t.set == id.set {
			return t
		}
	}
	return nil
}

// secure lets a service talk TLS as its settings ask, or plain. If what it needs is
// not to be had, it goes on as before if that was TLS, and otherwise turns clients
// away. The caller holds mu.
func (p *Proxy) secure(f *front, s *state.Service) error {
	if s.TLS.Certificate == "" {
		f.secure.Store(nil)
		return nil
	}
	t, err := p.terminator(ofTLS(s)), error(nil)
	if t == nil {
		t, err = newTerminator(p.log, s, &p.ring)
	}
	if err != nil {
		if old := f.secure.Load(); old == nil {
			f.secure.Store(hollow(p.log, s, &p.ring))
		}
		return inService(s, err)
	}
	f.secure.Store(t)
	return nil
}
