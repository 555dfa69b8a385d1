package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pen/cluster"
	"pen/state"
)

// rehearsal is who does what when the address is moved for a try.
type rehearsal struct {
	from, to, prober string // addresses of nodes, with their ports
	names            [3]string
	third            bool // the prober takes no part in the move
	at               netip.AddrPort
}

// planRehearsal decides who takes part, or tells why nobody should: a try must
// not become a failure.
func planRehearsal(p *picture, wish string) (r rehearsal, err error) {
	var holder, target, third *cluster.MemberStatus
	var others []*cluster.MemberStatus
	for i := range p.Members {
		m := &p.Members[i]
		switch {
		case m.Role == "witness" && m.Alive:
			third = m
		case m.Role == "witness":
			return r, fmt.Errorf("%s is not heard of, and should be before anything is tried", p.nameOf(m))
		case !m.Eligible:
			return r, fmt.Errorf("%s could not take the address: %s", p.nameOf(m), cmp.Or(m.Why, "unknown"))
		case m.Holding:
			holder = m
		default:
			others = append(others, m)
		}
	}
	switch {
	case holder == nil:
		return r, errors.New("nobody is known to hold the address")
	case len(others) == 0:
		return r, fmt.Errorf("%s is the only node that can hold the address", p.nameOf(holder))
	}
	slices.SortStableFunc(others, func(a, b *cluster.MemberStatus) int { return b.Priority - a.Priority })
	target = others[0]
	if wish != "" {
		i := slices.IndexFunc(others, func(m *cluster.MemberStatus) bool { return answersTo(m, wish) })
		switch {
		case i >= 0:
			target = others[i]
		case answersTo(holder, wish):
			return r, fmt.Errorf("%s holds the address already", wish)
		default:
			return r, fmt.Errorf("no node that could take the address is called %q", wish)
		}
	}
	for _, m := range others {
		if m != target {
			third = m
		}
	}
	prober := cmp.Or(third, target)
	return rehearsal{
		from: holder.Addr.String(), to: target.Addr.String(), prober: prober.Addr.String(), third: third != nil,
		names: [3]string{p.nameOf(holder), p.nameOf(target), p.nameOf(prober)},
	}, nil
}

func answersTo(m *cluster.MemberStatus, name string) bool {
	return m.Name == name || m.Addr.String() == name || m.Addr.Addr().String() == name || m.ID.String() == name
}

// probeAt is where clients of the first service that listens on the address come.
func (m *member) probeAt() (netip.AddrPort, error) {
	vips := virtual(m.local.Load())
	for _, s := range m.state.View().Services {
		listen := s.Listen.Addr
		if listen.Port() == 0 || s.Protocol != state.TCP {
			continue
		}
		for _, a := range vips {
			if !listen.Addr().IsValid() || listen.Addr().IsUnspecified() || listen.Addr() == a {
				return netip.AddrPortFrom(a, listen.Port()), nil
			}
		}
	}
	return netip.AddrPort{}, errors.New("no service listens for TCP on a virtual address")
}

// rehearseWord moves the address away and back, and tells what clients would have
// noticed.
func (d *daemon) rehearseWord(ctx context.Context, q question) error {
	if d.member == nil {
		return refuse(q.w, errAlone)
	}
	wish := q.word(1)
	check := wish == "check"
	if check {
		wish = ""
	}
	r, err := planRehearsal(d.member.picture(), wish)
	if err == nil {
		r.at, err = d.member.probeAt()
	}
	if err != nil {
		return refuse(q.w, fmt.Errorf("rehearse: %w", err))
	}
	fmt.Fprintf(q.w, "%s gives the address to %s and takes it back; %s connects to %s every %s\n", r.names[0], r.names[1], r.names[2], r.at, probeEvery)
	if !r.third {
		fmt.Fprintf(q.w, "there is no third node: %s takes part itself, and its connects do not cross the network while it holds the address\n", r.names[2])
	}
	if check {
		_, err := fmt.Fprintln(q.w, "nothing was done")
		return err
	}
	_ = q.w.Flush()
	d.log.Info("rehearsal", "from", r.names[0], "to", r.names[1], "prober", r.names[2], "by", q.by)
	if err := d.member.rehearse(ctx, r, func(format string, args ...any) {
		fmt.Fprintf(q.w, format+"\n", args...)
		_ = q.w.Flush()
	}); err != nil {
		return refuse(q.w, fmt.Errorf("rehearse: %w", err))
	}
	return nil
}

// Bounds of a rehearsal. Together they are less than the control port's.
const (
	rehearseCalm   = 200 * time.Millisecond // before and after a move
	rehearseArrive = 3 * time.Second        // for the address to be there
	rehearseReturn = 6 * time.Second        // for bringing it back, also when who asked has gone
)

func (m *member) rehearse(ctx context.Context, r rehearsal, say func(string, ...any)) error {
	if _, err := m.node.Query(ctx, r.prober, askProbe+r.at.String()); err != nil {
		return fmt.Errorf("nothing was moved: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = m.node.Query(ctx, r.prober, askProbeStop) // it ends by itself, too
	}()
	if _, err := m.sinceLast(ctx, r.prober); err != nil {
		return fmt.Errorf("nothing was moved: %w", err)
	}
	if err := m.moveAndTell(ctx, r, r.from, r.to, say); err != nil {
		if m.holds(r.from) {
			return fmt.Errorf("the address is at %s, as before: %w", r.names[0], err)
		}
		say("%s", err)
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), rehearseReturn)
	defer cancel()
	err := m.moveAndTell(back, r, r.to, r.from, say)
	for err != nil && !m.holds(r.from) && back.Err() == nil {
		if again := m.node.Transfer(back, r.from); again == nil {
			_ = m.arrived(back, r.from)
		}
		select {
		case <-time.After(rehearseCalm):
		case <-back.Done():
		}
	}
	if err != nil && !m.holds(r.from) {
		return fmt.Errorf("the address is not back at %s: %w; the word cluster tells where it is, and cluster transfer %s moves it", r.names[0], err, r.names[0])
	}
	return err
}

// moveAndTell moves the address, and says what the prober has seen of it.
func (m *member) moveAndTell(ctx context.Context, r rehearsal, from, to string, say func(string, ...any)) error {
	if err := m.node.Transfer(ctx, to); err != nil {
		return err
	}
	if err := m.arrived(ctx, to); err != nil {
		return err
	}
	select {
	case <-time.After(probePatience + rehearseCalm): // so that what is lost is known
	case <-ctx.Done():
	}
	p, err := m.sinceLast(ctx, r.prober)
	if err != nil {
		return fmt.Errorf("the address is at %s now, but the measurement is missing: %w", r.called(to), err)
	}
	text := ""
	if p.Err != "" {
		text = ": " + p.Err
	}
	say("%s -> %s: %.0f ms without an answer, %d of %d connects lost%s", r.called(from), r.called(to), p.GapMS, p.Lost, p.Connects, text)
	return nil
}

func (r rehearsal) called(addr string) string {
	if addr == r.from {
		return r.names[0]
	}
	return r.names[1]
}

// arrived waits until a node says that it holds the address.
func (m *member) arrived(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, rehearseArrive)
	defer cancel()
	for !m.holds(node) {
		changed := m.node.Changed()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // what a holder says of itself is no change
		case <-ctx.Done():
			return errors.New("the new leader does not hold the address in time")
		}
	}
	return nil
}

func (m *member) holds(node string) bool {
	p := m.picture()
	return slices.ContainsFunc(p.Members, func(s cluster.MemberStatus) bool { return s.Holding && s.Addr.String() == node })
}

func (m *member) sinceLast(ctx context.Context, prober string) (p probed, err error) {
	b, err := m.node.Query(ctx, prober, askProbeRead)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}
