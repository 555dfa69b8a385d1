package config

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"pen/state"
)

// atOnce is how many names are asked for at the same time.
const atOnce = 32

// answer is what a resolver said.
type answer struct {
	addr netip.Addr
	err  error
}

// resolveAll asks for all names of the statements at once, so that many slow
// ones take no longer than one, and returns a resolver that knows the answers.
func resolveAll(ctx context.Context, r Resolver, statements []Statement) Resolver {
	if r == nil {
		r = SystemResolver
	}
	answers := map[string]*answer{}
	for _, s := range statements {
		for _, host := range s.hosts() {
			answers[host] = &answer{}
		}
	}
	var wait sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for host, a := range answers {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			a.addr, a.err = r(ctx, host)
		})
	}
	wait.Wait()
	return func(_ context.Context, host string) (netip.Addr, error) {
		if a := answers[host]; a != nil {
			return a.addr, a.err
		}
		return netip.Addr{}, fmt.Errorf("lookup %s: not asked for", host)
	}
}

// hosts are the names in a statement that have to be resolved.
func (s *Statement) hosts() []string {
	var all []string
	add := func(host string) {
		if _, ok := literal(host); !ok && !strings.Contains(host, "/") && checkHost(host) == nil {
			all = append(all, host)
		}
	}
	switch {
	case s.bad != nil || s.No:
	case s.spec != nil:
		add(s.spec.Host)
	case s.Word.Name == "source" && len(s.Args) > 0:
		add(s.Args[0].Text)
	case s.Word.Name == "listen" && len(s.Args) > 0:
		if l, err := parseListen(s.Args[0].Text); err == nil && l.host != "" {
			add(l.host)
		}
	case s.Word.Name == "server":
		for i := 1; i+1 < len(s.Args); i += 2 {
			if s.Args[i].Text == "address" {
				add(s.Args[i+1].Text)
			}
		}
	}
	return all
}

// Named tells whether a server's host is a name, which is looked up: neither an
// address nor a path.
func Named(a state.Address) bool {
	if _, is := literal(a.Host); is || a.Host == "" || a.Path() {
		return false
	}
	return true
}

// resolves finds a resolve that has nothing to do.
func (a *analysis) resolves(s *state.Service) {
	named := func(v *state.Server) bool { return v != nil && Named(v.Address) }
	for i := range s.Servers {
		if named(&s.Servers[i]) {
			return
		}
	}
	if s.Resolve > 0 && !named(s.Emergency) && !named(s.Abuse) && !a.broken {
		a.odd(place{s.Name, "resolve", 0}, "resolve has no effect: no server is given by a name")
	}
}
