package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"pen/state"
)

func addrs(text string) (all []netip.Addr) {
	for _, a := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func TestAssign(t *testing.T) {
	for _, c := range []struct{ name, now, answers, want string }{
		{"the same", "10.0.0.1", "10.0.0.1", "10.0.0.1"},
		{"another", "10.0.0.1", "10.0.0.2", "10.0.0.2"},
		{"still among them", "10.0.0.5", "10.0.0.9 10.0.0.5 10.0.0.1", "10.0.0.5"},
		{"the first in order, not in the answer", "10.0.0.5", "10.0.0.9 10.0.0.1", "10.0.0.1"},
		{"of the same kind first", "2001:db8::5", "10.0.0.1 2001:db8::9", "2001:db8::9"},
		{"of the other kind if there is no other", "2001:db8::5", "10.0.0.1", "10.0.0.1"},
		{"several servers, as many addresses", "10.0.0.1 10.0.0.1", "10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2"},
		{"one of several goes", "10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.1 10.0.0.3 10.0.0.4", "10.0.0.1 10.0.0.4 10.0.0.3"},
		{"fewer addresses than servers", "10.0.0.1 10.0.0.2", "10.0.0.2", "10.0.0.2 10.0.0.2"},
		{"fewer, and none is as before", "10.0.0.1 10.0.0.2", "10.0.0.3", "10.0.0.3 10.0.0.3"},
		{"fewer, and one is as before", "10.0.0.1 10.0.0.1", "10.0.0.1", "10.0.0.1 10.0.0.1"},
	} {
		var group []slot
		for i, a := range addrs(c.now) {
			group = append(group, slot{i, &state.Server{Address: state.Address{Host: "www", IP: a}}})
		}
		got := assign(group, addrs(c.answers))
		if want := addrs(c.want); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
		for i, a := range got {
			group[i].Server = &state.Server{Address: state.Address{Host: "www", IP: a}}
		}
		if again := assign(group, addrs(c.answers)); !slices.Equal(again, got) {
			t.Errorf("%s: asked again: got %v after %v", c.name, again, got)
		}
	}
}

// zone is a renewer over a real state, with names that change.
type zone struct {
	t       *testing.T
	machine *state.Machine
	log     strings.Builder
	*renewer

	mu      sync.Mutex
	names   map[string]string // addresses, or an error after "!"
	asked   map[string]int
	slow    bool // answers take as long as they may
	busy    int
	most    int
	leader  bool
	changed chan struct{}
}

func newZone(t *testing.T, every int, servers ...string) *zone {
	z := &zone{t: t, machine: state.New(), names: map[string]string{}, asked: map[string]int{}, leader: true, changed: make(chan struct{})}
	z.renewer = &renewer{
		log: slog.New(slog.NewTextHandler(&z.log, nil)), lookup: z.answer, due: map[uint32]round{}, names: map[string]*naming{},
		leads: func() bool { z.mu.Lock(); defer z.mu.Unlock(); return z.leader },
		view:  z.machine.View,
		watch: func() <-chan struct{} { z.mu.Lock(); defer z.mu.Unlock(); return z.changed },
	}
	z.renewer.propose = func(_ context.Context, ops []state.Op) error { return z.apply(ops...) }
	ops := []state.Op{state.SetLevel{Level: 2}, state.Set{Option: state.OptResolve, Value: state.Int(every)}}
	for i, s := range servers {
		host, ip, _ := strings.Cut(s, "=")
		ops = append(ops, state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort, Server: state.Server{
			Address: state.Address{Host: host, IP: netip.MustParseAddr(ip)}, Port: 80,
		}})
	}
	if err := z.apply(ops...); err != nil {
		t.Fatal(err)
	}
	return z
}

func (z *zone) apply(ops ...state.Op) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	r := z.machine.Apply(state.Command{Ops: ops})
	close(z.changed)
	z.changed = make(chan struct{})
	return r.Err
}

func (z *zone) answer(ctx context.Context, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	z.asked[host]++
	text, slow := z.names[host], z.slow
	z.busy++
	z.most = max(z.most, z.busy)
	z.mu.Unlock()
	defer func() {
		z.mu.Lock()
		z.busy--
		z.mu.Unlock()
	}()
	if slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if why, bad := strings.CutPrefix(text, "!"); bad {
		return nil, errors.New(why)
	}
	return addrs(text), nil
}

func (z *zone) name(host, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names[host] = text
}

// where are the servers now.
func (z *zone) where() string {
	var all []string
	for _, s := range z.machine.View().Services[0].Servers {
		all = append(all, s.IP.String())
	}
	return strings.Join(all, " ")
}

// start runs the renewer until the bubble's test ends.
func (z *zone) start() {
	ctx, cancel := context.WithCancel(z.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { z.renewer.run(ctx) })
	z.t.Cleanup(func() { cancel(); wg.Wait() })
}

// pass lets so much time go by.
func (z *zone) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (z *zone) want(what, where string) {
	z.t.Helper()
	if got := z.where(); got != where {
		z.t.Errorf("%s: servers are at %s, want %s", what, got, where)
	}
}

func TestNamesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, 10, "www=10.0.0.1", "10.0.0.9=10.0.0.9", "app=10.0.1.1")
		z.name("www", "10.0.0.1")
		z.name("app", "10.0.1.1 10.0.1.2")
		z.start()
		z.pass(60 * time.Second)
		z.want("nothing has changed", "10.0.0.1 10.0.0.9 10.0.1.1")
		if n := z.asked["www"]; n < 5 || n > 7 || z.asked["10.0.0.9"] != 0 || z.asked["app"] != n {
			t.Errorf("asked %v, want www and app about 6 times and no address", z.asked)
		}
		z.name("www", "10.0.0.2")
		z.name("app", "10.0.1.2 10.0.1.3")
		z.pass(11 * time.Second)
		z.want("names have moved", "10.0.0.2 10.0.0.9 10.0.1.2")
		if n := z.moves.Load(); n != 2 {
			t.Errorf("%d moves, want 2", n)
		}
		index := z.machine.View().Index
		z.pass(time.Hour)
		if got := z.machine.View().Index; got != index {
			t.Errorf("%d commands for nothing", got-index)
		}
		if err := z.apply(state.Set{Option: state.OptResolve, Value: state.Int(0)}); err != nil {
			t.Fatal(err)
		}
		z.pass(0)
		before := z.asked["www"]
		z.pass(time.Hour)
		if n := z.asked["www"]; n != before {
			t.Errorf("asked %d times more without resolve", n-before)
		}
	})
}

// TestANameThatDoesNotResolveKeepsItsAddress: and the log has a line when that begins
// and when it ends.
func TestANameThatDoesNotResolveKeepsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, 10, "www=10.0.0.1")
		z.start()
		for _, bad := range []string{"!no such host", "", "0.0.0.0", "224.0.0.1 ::"} {
			z.name("www", bad)
			z.pass(5 * time.Minute)
			z.want(bad, "10.0.0.1")
		}
		z.name("www", "10.0.0.1")
		z.pass(5 * time.Minute)
		if a, b := strings.Count(z.log.String(), "does not resolve; its address stays"), strings.Count(z.log.String(), "resolves again"); a != 1 || b != 1 {
			t.Errorf("%d and %d lines, want one of each:\n%s", a, b, z.log.String())
		}
		if f, n := z.failures.Load(), z.lookups.Load(); f < 100 || n < f+20 {
			t.Errorf("%d of %d look-ups failed", f, n)
		}
		// A name that comes and goes all the time does not fill the log.
		for i := range 60 {
			z.name("www", []string{"!gone", "10.0.0.1"}[i%2])
			z.pass(11 * time.Second)
		}
		if n := strings.Count(z.log.String(), "\n"); n > 2+12 {
			t.Errorf("%d lines in 11 minutes", n)
		}
	})
}

// TestOneNodeAsksForAll: the others hear of it by the state.
func TestOneNodeAsksForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, 10, "www=10.0.0.1")
		z.name("www", "10.0.0.2")
		z.leader = false
		z.start()
		z.pass(time.Minute)
		if z.asked["www"] != 0 {
			t.Errorf("asked %d times by who does not lead", z.asked["www"])
		}
		z.mu.Lock()
		z.leader = true
		z.mu.Unlock()
		z.pass(12 * time.Second)
		z.want("it leads", "10.0.0.2")
	})
}

// TestSomebodyElseIsQuicker: what an operator says while a name is looked up stays.
func TestSomebodyElseIsQuicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, 10, "www=10.0.0.1")
		z.name("www", "10.0.0.2")
		z.renewer.propose = func(_ context.Context, ops []state.Op) error {
			other := state.Address{Host: "other", IP: netip.MustParseAddr("10.0.0.7")}
			if err := z.apply(state.SetServer{Fields: state.FieldAddress, Server: state.Server{Address: other}}); err != nil {
				return err
			}
			return z.apply(ops...)
		}
		z.name("other", "10.0.0.7")
		z.start()
		z.pass(time.Minute)
		z.want("the operator's", "10.0.0.7")
	})
}

func TestLookUpsHaveBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []string
		for i := range 200 {
			servers = append(servers, fmt.Sprintf("www%d=10.0.0.1", i))
		}
		z := newZone(t, 60, servers...)
		z.slow = true
		z.start()
		time.Sleep(60 * time.Second)
		for z.lookups.Load() < 200 {
			time.Sleep(time.Second)
		}
		z.pass(renewRound)
		z.mu.Lock()
		defer z.mu.Unlock()
		if z.most > renewAtOnce {
			t.Errorf("%d at once, want at most %d", z.most, renewAtOnce)
		}
		if z.busy != 0 {
			t.Errorf("%d still under way", z.busy)
		}
	})
}

// server answers questions for names of a zone over UDP, as it says now.
func (z *zone) server() string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		z.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if reply := z.reply(b[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	z.t.Cleanup(func() { conn.Close(); wg.Wait() })
	return conn.LocalAddr().String()
}

func (z *zone) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	z.mu.Lock()
	text, known := z.names[strings.TrimSuffix(q.Name.String(), ".")]
	z.mu.Unlock()
	switch {
	case text == "!servfail":
		m.RCode = dnsmessage.RCodeServerFailure
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	}
	if m.RCode == dnsmessage.RCodeSuccess {
		for _, a := range addrs(text) {
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// TestAnswersOfARealServer: what a name server says over a socket, one round after
// the other.
func TestAnswersOfARealServer(t *testing.T) {
	z := newZone(t, 1, "www.example.test=10.0.0.1")
	at := z.server()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", at)
	}}
	z.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return resolver.LookupNetIP(ctx, "ip", host)
	}
	round := func() { z.renew(t.Context(), z.machine.View().Services[0]) }
	for _, step := range []struct{ answer, want string }{
		{"10.0.0.1", "10.0.0.1"},
		{"10.0.0.3 10.0.0.2", "10.0.0.2"},
		{"10.0.0.3 10.0.0.2", "10.0.0.2"},
		{"", "10.0.0.2"},
		{"!servfail", "10.0.0.2"},
		{"2001:db8::1", "2001:db8::1"},
		{"10.0.0.4 2001:db8::2", "2001:db8::2"},
		{"10.0.0.4", "10.0.0.4"},
	} {
		z.name("www.example.test", step.answer)
		round()
		z.want(step.answer, step.want)
	}
	z.mu.Lock()
	delete(z.names, "www.example.test")
	z.mu.Unlock()
	round()
	z.want("no such name", "10.0.0.4")
	if f := z.failures.Load(); f != 3 {
		t.Errorf("%d look-ups failed, want 3", f)
	}
}
