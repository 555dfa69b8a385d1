package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errLapsed says that a renewal came too late: the kernel had closed already.
var errLapsed = errors.New("the kernel lease had run out")

// patience bounds the wait for the kernel's answer to one batch.
const patience = time.Second

// A fence is the kernel lease: packets to and from the addresses, and answers
// for them, pass only while an element of a set lives. The sets are empty when
// nobody holds the addresses, so closed is the normal state.
//
// A fence is for one goroutine.
type fence struct {
	addrs []netip.Addr
	lease time.Duration
	tick  time.Duration // of the kernel's clock
	deaf  []Port        // what the kernel shall not hear

	conn *nftables.Conn
	nl   *netlink.Conn // the same, for deadlines

	arp, inet *nftables.Table
	// Elements of pass let packets through, those of answer let the kernel say
	// where the addresses are.
	pass4, pass6, answer4, answer6 *nftables.Set

	passing, answering phase

	made  int      // rules of the last construction
	rules []ruleID // as we made them
	seen  time.Time
	gen   uint32 // the kernel's count of changes when rules were last seen
	own   uint32 // our changes since
}

// A phase is what we know about elements of a set.
type phase int

const (
	unknown phase = iota
	closed
	opened
)

type ruleID struct {
	table  nftables.TableFamily
	chain  string
	handle uint64
}

// newFence changes nothing in the kernel. A lease of nothing is for those who
// only close.
func newFence(table string, addrs []netip.Addr, lease time.Duration) *fence {
	f := &fence{
		addrs: addrs, lease: lease, tick: tick(),
		arp:  &nftables.Table{Name: table, Family: nftables.TableFamilyARP},
		inet: &nftables.Table{Name: table, Family: nftables.TableFamilyINet},
	}
	set := func(t *nftables.Table, name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: key, HasTimeout: true}
	}
	f.answer4 = set(f.arp, "answer4", nftables.TypeIPAddr)
	f.answer6 = set(f.inet, "answer6", nftables.TypeIP6Addr)
	f.pass4 = set(f.inet, "pass4", nftables.TypeIPAddr)
	f.pass6 = set(f.inet, "pass6", nftables.TypeIP6Addr)
	return f
}

// tick is the length of a jiffy. The kernel rounds timeouts up to whole ones.
func tick() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return 10 * time.Millisecond
	}
	return time.Duration(ts.Nano())
}

// flush sends the batch. After an error the connection is a new one, so that
// no late answer is taken for another's.
func (f *fence) flush(batch func(*nftables.Conn)) error {
	if err := f.dial(); err != nil {
		return err
	}
	if err := f.nl.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	batch(f.conn)
	err := f.conn.Flush()
	if err != nil {
		f.hangUp()
		return err
	}
	f.own++
	return nil
}

func (f *fence) dial() error {
	if f.conn != nil {
		return nil
	}
	keep := func(c *netlink.Conn) error { f.nl = c; return nil }
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(keep))
	if err != nil {
		return err
	}
	f.conn = conn
	return nil
}

func (f *fence) hangUp() {
	if f.conn != nil {
		_ = f.conn.CloseLasting() // nothing is lost with it
		f.conn, f.nl = nil, nil
	}
}

// build makes the tables anew and opens them as open does, all in one step:
// there is no moment without them if they were there before.
func (f *fence) build(left time.Duration, answer bool) error {
	pass, wantPass, wantAnswer := f.phases(left, answer)
	f.passing, f.answering = unknown, unknown
	err := f.flush(func(c *nftables.Conn) {
		f.construct(c)
		f.put(c, closed, wantAnswer, pass, f.answer4, f.answer6)
		f.put(c, closed, wantPass, pass, f.pass4, f.pass6)
	})
	if err != nil {
		return fmt.Errorf("make nftables table %s: %w", f.inet.Name, err)
	}
	f.passing, f.answering = wantPass, wantAnswer
	gen, err := f.generation()
	if err != nil {
		return err
	}
	rules, err := f.list()
	if err != nil {
		return err
	}
	if len(rules) != f.made {
		return fmt.Errorf("make nftables table %s: somebody else changes it at this moment", f.inet.Name)
	}
	f.rules, f.gen, f.own, f.seen = rules, gen, 0, time.Now()
	return nil
}

// rehearse makes the tables and deletes them in one step: nothing changes, and
// the kernel has said whether it could.
func (f *fence) rehearse() error {
	defer f.hangUp()
	return f.flush(func(c *nftables.Conn) {
		f.construct(c)
		c.DelTable(f.arp)
		c.DelTable(f.inet)
	})
}

// remove deletes the tables.
func (f *fence) remove() error {
	defer f.hangUp()
	err := f.flush(func(c *nftables.Conn) {
		for _, t := range []*nftables.Table{f.arp, f.inet} {
			c.AddTable(t)
			c.DelTable(t)
		}
	})
	if err != nil {
		return fmt.Errorf("delete nftables table %s: %w", f.inet.Name, err)
	}
	return nil
}

// A batch can not fail to be put together: our sets are neither anonymous nor
// intervals, and that is all that the builder refuses.
func (f *fence) construct(c *nftables.Conn) {
	f.made = 0
	for _, t := range []*nftables.Table{f.arp, f.inet} {
		// A table that is there, in whatever state, goes in the same step.
		c.AddTable(t)
		c.DelTable(t)
		c.AddTable(t)
	}
	for _, s := range []*nftables.Set{f.answer4, f.answer6, f.pass4, f.pass6} {
		_ = c.AddSet(s, nil)
	}
	raw := nftables.ChainPriorityRaw
	const arpOut = 1 // NF_ARP_OUT
	answers := c.AddChain(&nftables.Chain{Name: "answers", Table: f.arp, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookRef(arpOut), Priority: nftables.ChainPriorityFilter})
	in := c.AddChain(&nftables.Chain{Name: "in", Table: f.inet, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: raw})
	out := c.AddChain(&nftables.Chain{Name: "out", Table: f.inet, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: raw})

	f.deafen(c, in)
	const arpSender, ip4From, ip6From = 14, 12, 8
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	for _, a := range f.addrs {
		if a.Is4() {
			f.drop(c, answers, f.answer4, equal(network, arpSender, a.AsSlice()))
			f.drop(c, in, f.pass4, addressed(a))
			f.drop(c, out, f.pass4, family(unix.NFPROTO_IPV4), equal(network, ip4From, a.AsSlice()))
			continue
		}
		// Advertisements name the address as their target, and a solicitation tells
		// its sender's link layer address too.
		const advertisement, solicitation, targetAt = 136, 135, 8
		f.drop(c, out, f.answer6, protocol(icmpv6), equal(transport, 0, []byte{advertisement}), equal(transport, targetAt, a.AsSlice()))
		f.drop(c, out, f.answer6, protocol(icmpv6), equal(transport, 0, []byte{solicitation}), family(unix.NFPROTO_IPV6), equal(network, ip6From, a.AsSlice()))
		f.drop(c, in, f.pass6, addressed(a))
		f.drop(c, out, f.pass6, family(unix.NFPROTO_IPV6), equal(network, ip6From, a.AsSlice()))
	}
}

// drop adds the rule: drop what matches all, unless the last thing compared is
// an element of the set.
func (f *fence) drop(c *nftables.Conn, chain *nftables.Chain, unless *nftables.Set, matches ...[]expr.Any) {
	exprs := slices.Concat(matches...)
	exprs = append(exprs,
		&expr.Lookup{SourceRegister: register, SetName: unless.Name, SetID: unless.ID, Invert: true},
		&expr.Verdict{Kind: expr.VerdictDrop})
	c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs})
	f.made++
}

const register = 1

func equal(base expr.PayloadBase, offset uint32, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: uint32(len(value))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value},
	}
}

func family(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{f}},
	}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{p}},
	}
}

// open lets packets pass for the given time, at most the lease, and lets the
// kernel answer for as long if answer says so. A time of nothing closes.
//
// What is open already is renewed under the condition that it is still open:
// errLapsed otherwise, and then nothing has changed. A process that was frozen
// between its decision and this call does not open a fence that has closed.
func (f *fence) open(left time.Duration, answer bool) error {
	pass, wantPass, wantAnswer := f.phases(left, answer)
	passing, answering := f.passing, f.answering
	if passing == closed && wantPass == closed && answering == closed {
		return nil
	}
	f.passing, f.answering = unknown, unknown // until the kernel has agreed
	err := f.flush(func(c *nftables.Conn) {
		f.put(c, answering, wantAnswer, pass, f.answer4, f.answer6)
		f.put(c, passing, wantPass, pass, f.pass4, f.pass6)
	})
	if errors.Is(err, unix.ENOENT) && (passing == opened || answering == opened) {
		return errLapsed
	}
	if err != nil {
		return fmt.Errorf("renew kernel lease: %w", err)
	}
	f.passing, f.answering = wantPass, wantAnswer
	return nil
}

func (f *fence) phases(left time.Duration, answer bool) (pass time.Duration, wantPass, wantAnswer phase) {
	pass, wantPass, wantAnswer = timeout(left, f.lease, f.tick), closed, closed
	if pass > 0 {
		wantPass = opened
		if answer {
			wantAnswer = opened
		}
	}
	return pass, wantPass, wantAnswer
}

// put makes elements of every address in the two sets.
func (f *fence) put(c *nftables.Conn, have, want phase, pass time.Duration, four, six *nftables.Set) {
	if have == closed && want == closed {
		return
	}
	var elements, lasting [2][]nftables.SetElement
	for _, a := range f.addrs {
		i := b2i(a.Is6())
		elements[i] = append(elements[i], nftables.SetElement{Key: a.AsSlice(), Timeout: pass})
		lasting[i] = append(lasting[i], nftables.SetElement{Key: a.AsSlice(), Timeout: time.Hour})
	}
	for i, set := range []*nftables.Set{four, six} {
		if len(elements[i]) == 0 {
			continue
		}
		if have != opened || want != opened {
			// With this the deletion always finds one. It must not end before, or the
			// whole would be refused; nobody sees it in between.
			_ = c.SetAddElements(set, lasting[i])
		}
		_ = c.SetDeleteElements(set, elements[i])
		if want == opened {
			_ = c.SetAddElements(set, elements[i])
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// shutUp ends the answers, and lets packets pass for a time that is not part
// of any lease, from whatever state.
func (f *fence) shutUp(pass time.Duration) error {
	f.passing, f.answering = unknown, unknown
	return f.flush(func(c *nftables.Conn) {
		f.put(c, unknown, closed, 0, f.answer4, f.answer6)
		f.put(c, unknown, opened, pass, f.pass4, f.pass6)
	})
}

// close ends both, from whatever state.
func (f *fence) close() error {
	f.passing, f.answering = unknown, unknown
	return f.open(0, false)
}

// intact reports whether our rules were as we made them when it last looked,
// at most half a period ago. It asks the kernel for
// its count of changes first, which is cheap, and looks closer only when
// somebody else has changed something.
func (f *fence) intact() (bool, error) {
	if time.Since(f.seen) < period/2 {
		return true, nil
	}
	return f.inspect()
}

func (f *fence) inspect() (bool, error) {
	gen, err := f.generation()
	if err != nil {
		return false, err
	}
	if gen == f.gen+f.own {
		f.seen = time.Now()
		return true, nil
	}
	rules, err := f.list()
	if err != nil || !slices.Equal(rules, f.rules) {
		return false, nil //nolint:nilerr // a table that can not be listed is not intact
	}
	f.gen, f.own, f.seen = gen, 0, time.Now()
	return true, nil
}

func (f *fence) generation() (uint32, error) {
	if err := f.dial(); err != nil {
		return 0, err
	}
	if err := f.nl.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	answer, err := f.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		f.hangUp()
		return 0, fmt.Errorf("ask nftables for its generation: %w", err)
	}
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if d.Type() == unix.NFTA_GEN_ID {
				b := d.Bytes()
				if len(b) == 4 {
					return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), nil
				}
			}
		}
	}
	return 0, errors.New("ask nftables for its generation: no answer")
}

// list finds the rules of our chains. Handles are never used twice in a table.
func (f *fence) list() ([]ruleID, error) {
	if err := f.dial(); err != nil {
		return nil, err
	}
	if err := f.nl.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var found []ruleID
	for _, c := range []nftables.Chain{{Name: "answers", Table: f.arp}, {Name: "in", Table: f.inet}, {Name: "out", Table: f.inet}} {
		rules, err := f.conn.GetRules(c.Table, &c)
		if err != nil {
			f.hangUp()
			return nil, fmt.Errorf("list rules of %s %s: %w", c.Table.Name, c.Name, err)
		}
		for _, r := range rules {
			found = append(found, ruleID{c.Table.Family, c.Name, r.Handle})
		}
	}
	return found, nil
}
