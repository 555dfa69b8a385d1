package vip

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	vip4  = netip.MustParseAddr("10.9.0.100")
	vip4b = netip.MustParseAddr("10.9.0.101")
	vip6  = netip.MustParseAddr("fd00:9::100")
)

func TestClaimAnswersAndAnnouncesExactBytes(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4, vip4b, vip6)
	a.start("10.9.0.100/24", "10.9.0.101/24 dev eth0", "fd00:9::100/64")
	if a.has(vip4) || a.has(vip4b) || a.has(vip6) {
		t.Error("an address is there before it was wanted")
	}
	began := time.Now()
	a.hold(1, time.Second)
	a.until("held", held)
	for _, addr := range []netip.Addr{vip4, vip4b, vip6} {
		e.answersAfter(t, a, addr, began)
		eventually(t, "an announcement", func() bool { return len(e.claims(a, addr, true)) > 0 })
		first := e.claims(a, addr, true)[0]
		want, err := announcement(a.mac, addr)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Frame, want) {
			t.Errorf("announcement of %v\n got %x\nwant %x", addr, first.Frame, want)
		}
		t.Logf("%v: announced %v after the word, answered %v after it", addr, first.At.Sub(began), e.claims(a, addr, false)[0].At.Sub(began))
	}
	list, err := a.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, has := range list {
		ip, _ := netip.AddrFromSlice(has.IP)
		if ip = ip.Unmap(); ip != vip4 && ip != vip6 {
			continue
		}
		if ones, bits := has.Mask.Size(); ones != bits || has.ValidLft > 10 || has.PreferedLft != 0 {
			t.Errorf("%v: /%d, valid %d s, preferred %d s", ip, ones, has.ValidLft, has.PreferedLft)
		}
		if ip == vip4 && has.Label != "eth0:pen" {
			t.Errorf("label %q", has.Label)
		}
		if has.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%v is tentative", ip)
		}
	}
}

// Who connects as soon as an announcement is heard must never lose a SYN:
// that would cost a second. No listener is there, so a SYN that arrives is refused.
func TestNothingIsAnnouncedBeforeItWorks(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen()
	a.start("10.9.0.100/24")
	for term := range uint64(8) {
		before := len(e.claims(a, vip4, true))
		a.hold(term+1, time.Second)
		eventually(t, "an announcement", func() bool { return len(e.claims(a, vip4, true)) > before })
		began := time.Now()
		var err error
		l.in(func() { _, err = net.DialTimeout("tcp4", "10.9.0.100:9", 5*time.Second) })
		if took := time.Since(began); !errors.Is(err, unix.ECONNREFUSED) || took > 800*time.Millisecond {
			t.Errorf("connect after the announcement: %v after %v, want refused at once", err, took)
		}
		a.do(line{Do: "want"})
		a.until("clear", clean)
	}
}

// late is how much later than it came a frame may be heard.
const late = 60 * time.Millisecond

func TestReleaseLeavesNothing(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4, vip6)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(1, time.Second)
	a.until("held", held)
	e.answersAfter(t, a, vip4, time.Now())
	e.answersAfter(t, a, vip6, time.Now())
	a.do(line{Do: "want"})
	a.until("clear", clean)
	if a.has(vip4) || a.has(vip6) {
		t.Error("an address is left")
	}
	released := time.Now()
	for _, addr := range []netip.Addr{vip4, vip6} {
		if last := e.lastAnswer(a, addr); last.After(released.Add(late)) {
			t.Errorf("%v answered %v after the state was clear", addr, last.Sub(released))
		}
	}
	pid := a.guardPid()
	if w := a.ask(line{Do: "quit"}); w.Err != "" {
		t.Error(w.Err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the guard is left")
	}
	tables, err := a.nft().ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		t.Errorf("nftables table %s is left", table.Name)
	}
}

// The end of the lease ends everything, without another word.
func TestLeaseEnds(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4)
	a.start("10.9.0.100/24")
	a.hold(1, time.Second)
	a.until("held", held)
	e.answersAfter(t, a, vip4, time.Now())
	until := time.Now().Add(200 * time.Millisecond)
	a.do(line{Do: "want", Want: Want{Hold: true, Answer: true, Until: until, Term: 1}})
	a.until("clear", clean)
	last := e.lastAnswer(a, vip4)
	t.Logf("last answer %v after the end of the lease", last.Sub(until))
	if last.After(until.Add(late)) {
		t.Errorf("last answer %v after the end of the lease", last.Sub(until))
	}
	if a.has(vip4) {
		t.Error("the address is left")
	}
}

// A holder that takes its addresses away itself leaves nothing for its guard.
func TestGuardHearsThatAllIsGone(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24")
	a.hold(1, 100*time.Millisecond)
	a.until("held", held)
	a.do(line{Do: "want", Want: Want{Term: 1}})
	a.until("clear", clean)
	time.Sleep(300 * time.Millisecond) // twice what the guard would wait for
	if a.log.has("the guard has taken") {
		t.Error("the guard was not told that the holder has done its work itself")
	}
}

// Holder and guard are frozen: the kernel alone ends the answers, and later the address.
func TestFrozenWithItsGuard(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4, vip6)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(1, 300*time.Millisecond)
	a.until("held", held)
	e.answersAfter(t, a, vip4, time.Now())
	e.answersAfter(t, a, vip6, time.Now())
	guard := a.guardPid()
	best := time.Hour // a busy machine makes the ear late, and nothing makes it early
	for range 3 {
		syscall.Kill(guard, syscall.SIGSTOP)
		a.signal(syscall.SIGSTOP)
		stopped := time.Now()
		for _, addr := range []netip.Addr{vip4, vip6} {
			last := e.lastAnswer(a, addr).Sub(stopped)
			t.Logf("%v: last answer %v after the stop, the kernel lease is 100ms", addr, last)
			best = min(best, last)
			if last > time.Second {
				t.Errorf("%v answered for %v after the stop", addr, last)
			}
		}
		for _, addr := range []netip.Addr{vip4, vip6} {
			if !a.has(addr) {
				t.Errorf("%v has gone: something else than the kernel lease ended the answers", addr)
			}
		}
		// Awake, with a lease that stands, it goes on.
		syscall.Kill(guard, syscall.SIGCONT)
		a.signal(syscall.SIGCONT)
		e.answersAfter(t, a, vip4, time.Now())
		e.answersAfter(t, a, vip6, time.Now())
		a.until("held", held)
	}
	if best > 105*time.Millisecond {
		t.Errorf("answered for at least %v after the stop, with a kernel lease of 100ms", best)
	}
}

func TestKilledWithItsGuard(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4, vip6)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(1, 300*time.Millisecond)
	a.until("held", held)
	e.answersAfter(t, a, vip4, time.Now())
	syscall.Kill(a.guardPid(), syscall.SIGKILL)
	a.signal(syscall.SIGKILL)
	killed := time.Now()
	for _, addr := range []netip.Addr{vip4, vip6} {
		last := e.lastAnswer(a, addr).Sub(killed)
		t.Logf("%v: last answer %v after the kill", addr, last)
		if last > time.Second {
			t.Errorf("%v answered for %v", addr, last)
		}
		if addr == vip4 && (!a.has(vip4) || !a.has(vip6)) {
			t.Error("an address has gone: somebody else has cleaned up")
		}
		eventually(t, "the end of the lifetime", func() bool { return !a.has(addr) })
		t.Logf("%v: gone %v after the kill", addr, time.Since(killed))
	}
}

// peer accepts the guard's connection and returns what is said over it.
func (l *lab) peer() (addr string, said func() string) {
	l.t.Helper()
	var s net.Listener
	l.in(func() {
		var err error
		s, err = net.Listen("tcp4", "10.9.0.1:0")
		must(l.t, err)
	})
	l.t.Cleanup(func() { s.Close() })
	words := make(chan string, 1)
	go func() {
		c, err := s.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		first := make([]byte, 1)
		n, _ := c.Read(first)
		l.mu.Lock()
		l.said = time.Now()
		l.mu.Unlock()
		b, _ := io.ReadAll(c)
		words <- string(first[:n]) + string(b)
	}()
	return s.Addr().String(), func() string {
		select {
		case w := <-words:
			return w
		case <-time.After(patienceOfTests):
			return "(nothing, and no end)"
		}
	}
}

func TestGuardOfKilledHolder(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4, vip6)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	addr, said := l.peer()
	a.hold(7, time.Second)
	a.until("held", held)
	a.giveGuard(addr)
	e.answersAfter(t, a, vip4, time.Now())
	e.answersAfter(t, a, vip6, time.Now())

	a.signal(syscall.SIGKILL)
	killed := time.Now()
	if got, want := said(), "released 7\n"; got != want {
		t.Errorf("the guard said %q, want %q", got, want)
	}
	l.mu.Lock()
	t.Logf("the guard's word came %v after the kill", l.said.Sub(killed))
	l.mu.Unlock()
	for _, addr := range []netip.Addr{vip4, vip6} {
		eventually(t, "the address is gone", func() bool { return !a.has(addr) })
		gone := time.Since(killed)
		last := e.lastAnswer(a, addr).Sub(killed)
		t.Logf("%v: last answer %v after the kill, seen gone after %v", addr, last, gone)
		if gone > 5*time.Second {
			t.Errorf("%v was there for %v: not the guard's doing", addr, gone)
		}
		if last > time.Second {
			t.Errorf("%v answered for %v", addr, last)
		}
	}
}

// What the dead holder's kernel has to tell its clients still gets out, also
// when it closes the guard's socket first: it begins with the highest number.
func TestClientsOfKilledHolderAreTold(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.do(line{Do: "reserve"})
	// A lease and a kernel lease that a busy machine does not miss.
	a.do(line{Do: "config", Vips: []string{"10.9.0.100/24"}, Name: "lab", Lease: 2 * time.Second})
	a.until("ready", func(s State) bool { return s.Fences == Fences{true, true} && s.Carrier })
	a.ask(line{Do: "free"})
	a.hold(7, patienceOfTests)
	a.until("held", held)
	if w := a.ask(line{Do: "listen", Addr: "10.9.0.100:80"}); w.Err != "" {
		t.Fatal(w.Err)
	}
	const clients = 300
	ends := make(chan error, clients)
	open := make([]net.Conn, 0, clients)
	for range clients {
		var c net.Conn
		l.in(func() {
			var err error
			c, err = net.Dial("tcp4", "10.9.0.100:80")
			must(t, err)
		})
		c.Write([]byte("x"))
		c.Read(make([]byte, 1))
		defer c.Close()
		go func() {
			_, err := c.Read(make([]byte, 1))
			ends <- err
		}()
		open = append(open, c)
	}
	a.signal(syscall.SIGKILL)
	for _, c := range open {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	mute := 0
	for range clients {
		if err := <-ends; errors.Is(err, context.DeadlineExceeded) || strings.Contains(fmt.Sprint(err), "timeout") {
			mute++
		}
	}
	if mute > 0 {
		t.Errorf("%d of %d clients were not told that the holder has died", mute, clients)
	}
}

// giveGuard lets the node's guard have a connection to addr.
func (h *host) giveGuard(addr string) {
	h.t.Helper()
	guard := h.guardPid()
	before := sockets(guard)
	if w := h.ask(line{Do: "conn", Addr: addr}); w.Err != "" {
		h.t.Fatal(w.Err)
	}
	eventually(h.t, "the guard has the connection", func() bool { return sockets(guard) > before })
}

func sockets(pid int) int {
	n := 0
	for _, f := range descriptorsOf(pid) {
		if strings.HasPrefix(f, "socket:") {
			n++
		}
	}
	return n
}

// A frozen holder's addresses go, but no word is given for it: it may wake up.
func TestGuardOfFrozenHolder(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4)
	a.start("10.9.0.100/24")
	addr, said := l.peer()
	a.hold(7, 300*time.Millisecond)
	a.until("held", held)
	a.giveGuard(addr)
	e.answersAfter(t, a, vip4, time.Now())

	a.signal(syscall.SIGSTOP)
	stopped := time.Now()
	eventually(t, "the address is gone", func() bool { return !a.has(vip4) })
	gone := time.Since(stopped)
	last := e.lastAnswer(a, vip4).Sub(stopped)
	t.Logf("last answer %v after the stop, gone after %v", last, gone)
	if gone > 5*time.Second || last > time.Second {
		t.Errorf("last answer %v after the stop, gone after %v", last, gone)
	}
	a.signal(syscall.SIGCONT)
	awake := time.Now()
	a.until("held again", held)
	e.answersAfter(t, a, vip4, awake)

	a.hold(7, patienceOfTests) // so that it has not ended by itself
	e.answersAfter(t, a, vip4, time.Now())
	a.signal(syscall.SIGKILL)
	if got, want := said(), "released 7\n"; got != want {
		t.Errorf("the guard said %q in all, want %q", got, want)
	}
}

// What the guard has taken away nobody else has removed, also when the kernel
// tells of it first.
func TestWhatTheGuardTookIsNotOfOthers(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(7, 200*time.Millisecond)
	a.until("held", held)
	for n := range 2 {
		// For as long as it takes: a guard that got no turn for a while finds the next
		// order before it has judged the last one, and then there is nothing to take.
		if w := a.ask(line{Do: "hush", Stand: patienceOfTests / 2}); w.Err != "" {
			t.Fatal(w.Err)
		}
		eventually(t, "the addresses are there again", func() bool { return a.has(vip4) && a.has(vip6) })
		must(t, a.nl.AddrDel(a.link("eth0"), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(vip4, 32))}))
		s := a.until("one that others removed is counted", func(s State) bool { return held(s) && s.Readded > uint64(n) })
		if s.Readded != uint64(n+1) {
			t.Errorf("%d addresses removed by others, want %d: the rest was our guard", s.Readded, n+1)
		}
		eventually(t, "it is in the log", func() bool { return a.log.has("removed by others") })
	}
}

// Without nf_tables the guard is what ends the answers.
func TestGuardWithoutKernelLease(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen(vip4)
	a.do(line{Do: "config", Vips: []string{"10.9.0.100/24"}, Unfenced: true})
	bare := func(s State) bool { return s.Held && s.Fences == Fences{Guard: true} }
	a.hold(7, 300*time.Millisecond)
	a.until("held", bare)
	e.answersAfter(t, a, vip4, time.Now())

	// Packets without answers is what this kernel can not do.
	a.do(line{Do: "want", Want: Want{Hold: true, Term: 7}, Stand: time.Second})
	a.until("clear", clean)
	a.hold(7, 300*time.Millisecond)
	a.until("held", bare)
	e.answersAfter(t, a, vip4, time.Now())

	a.signal(syscall.SIGSTOP)
	stopped := time.Now()
	eventually(t, "the address is gone", func() bool { return !a.has(vip4) })
	last := e.lastAnswer(a, vip4).Sub(stopped)
	t.Logf("last answer %v after the stop, the lease was 300ms", last)
	if last > 5*time.Second {
		t.Errorf("last answer %v after the stop", last)
	}
	a.signal(syscall.SIGCONT)
	a.hold(7, patienceOfTests) // so that it has not ended by itself
	a.until("held", bare)
	addr, said := l.peer()
	a.giveGuard(addr)
	a.signal(syscall.SIGKILL)
	if got, want := said(), "released 7\n"; got != want || a.has(vip4) {
		t.Errorf("the guard said %q, want %q; the address is there: %v", got, want, a.has(vip4))
	}
}

func TestGuardIsReplaced(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24")
	addr, said := l.peer()
	a.hold(7, time.Second)
	a.until("held", held)
	a.giveGuard(addr)
	first := a.guardPid()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		syscall.Kill(first, s)
	}
	if a.guardPid() != first {
		t.Error("the guard gave in to a signal that is for all processes of a service")
	}
	syscall.Kill(first, syscall.SIGKILL)
	a.until("without its guard", func(s State) bool { return s.Held && s.Fences == Fences{NFT: true} })
	a.until("guarded again", held)
	second := a.guardPid()
	syscall.Kill(second, syscall.SIGSTOP)
	a.until("without its guard", func(s State) bool { return s.Held && s.Fences == Fences{NFT: true} })
	a.until("guarded again", held)
	eventually(t, "another guard", func() bool { g := a.guards(); return len(g) == 1 && g[0] != second })
	eventually(t, "the guard has the connection", func() bool { return sockets(a.guardPid()) > 2 })
	if s := a.until("held", held); s.Readded != 0 {
		t.Errorf("%d addresses added again: a guard has touched them", s.Readded)
	}
	a.signal(syscall.SIGKILL)
	if got, want := said(), "released 7\n"; got != want {
		t.Errorf("the third guard said %q, want %q", got, want)
	}
}

// burstOf announcements within the patience of the tests are a new burst: the
// rest of one that is running, and the refreshes, take longer.
const burstOf = 6

func TestDeletedAddressComesBack(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(1, time.Second)
	a.until("held", held)
	events, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribeAt(a.ns, events, done); err != nil {
		t.Fatal(err)
	}
	for n, addr := range []netip.Addr{vip4, vip6} {
		before := a.until("held", held).Announced
		if n == 0 {
			before = a.until("calm", func(s State) bool { return s.Announced >= 12 }).Announced
		}
		if err := a.nl.AddrDel(a.link("eth0"), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}); err != nil {
			t.Fatal(err)
		}
		deleted := time.Now()
		eventually(t, "it is back", func() bool {
			select {
			case u := <-events:
				ip, _ := netip.AddrFromSlice(u.LinkAddress.IP)
				return u.NewAddr && ip.Unmap() == addr
			default:
				return false
			}
		})
		t.Logf("%v: back after %v", addr, time.Since(deleted))
		a.until("counted and announced", func(s State) bool { return s.Readded == uint64(n+1) && s.Announced >= before+2*burstOf })
	}
}

func TestFlushedRulesetIsRestored(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	for _, holding := range []bool{false, true} {
		if holding {
			a.hold(1, time.Second)
			a.until("held", held)
		}
		for _, damage := range []string{"everything", "our rules", "one rule", "the elements"} {
			c := a.nft()
			want := ruleCount(t, c)
			switch damage {
			case "everything":
				c.FlushRuleset()
			case "our rules":
				c.FlushTable(&nftables.Table{Name: "pen_lab", Family: nftables.TableFamilyINet})
			case "one rule":
				chain := &nftables.Chain{Name: "answers", Table: &nftables.Table{Name: "pen_lab", Family: nftables.TableFamilyARP}}
				rules, err := c.GetRules(chain.Table, chain)
				if err != nil || len(rules) == 0 {
					t.Fatal(err, len(rules))
				}
				must(t, c.DelRule(rules[0]))
			case "the elements":
				c.FlushSet(&nftables.Set{Name: "pass4", Table: &nftables.Table{Name: "pen_lab", Family: nftables.TableFamilyINet}})
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			damaged := time.Now()
			eventually(t, damage+" restored", func() bool {
				return ruleCount(t, c) == want && (!holding || elementCount(c, "pass4") == 1 && elementCount(c, "pass6") == 1)
			})
			t.Logf("holding %v, %s: restored after %v", holding, damage, time.Since(damaged))
			if !holding && elementCount(c, "pass4")+elementCount(c, "pass6") != 0 {
				t.Error("open although nothing is held")
			}
		}
	}
	a.until("held", held)
}

func ruleCount(t *testing.T, c *nftables.Conn) int {
	t.Helper()
	n := 0
	chains, err := c.ListChains()
	if err != nil {
		return -1
	}
	for _, chain := range chains {
		if rules, err := c.GetRules(chain.Table, chain); err == nil {
			n += len(rules)
		}
	}
	return n
}

func elementCount(c *nftables.Conn, set string) int {
	e, err := c.GetSetElements(&nftables.Set{Name: set, Table: &nftables.Table{Name: "pen_lab", Family: nftables.TableFamilyINet}})
	if err != nil {
		return -1
	}
	return len(e)
}

func TestForeignClaimIsAConflict(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen()
	a.start("10.9.0.100/24", "fd00:9::100/64")
	thief := net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	a.hold(1, time.Second)
	a.until("held", held)
	for _, addr := range []netip.Addr{vip4, vip6} {
		frame, err := announcement(thief, addr)
		must(t, err)
		before := len(e.claims(a, addr, true))
		e.send(frame)
		s := a.until("a conflict", func(s State) bool { return len(s.Conflicts) > 0 && s.Conflicts[len(s.Conflicts)-1].Addr == addr })
		c := s.Conflicts[len(s.Conflicts)-1]
		if c.MAC != thief.String() || c.Link != "eth0" || c.Count == 0 || c.Last.IsZero() {
			t.Errorf("conflict %+v", c)
		}
		eventually(t, "announced against it", func() bool { return len(e.claims(a, addr, true)) > before })
	}
	if n := len(a.until("held", held).Conflicts); n != 2 {
		t.Errorf("%d conflicts, want 2", n)
	}
	// Another owner that keeps quiet is found by the probe.
	b := l.host(12)
	must(t, b.nl.AddrAdd(b.link("eth0"), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(vip4, 32))}))
	a.do(line{Do: "want"})
	a.until("clear", clean)
	a.hold(2, time.Second)
	s := a.until("a conflict with the quiet owner", func(s State) bool { return len(s.Conflicts) == 3 })
	if got, want := s.Conflicts[2].MAC, b.mac.String(); got != want {
		t.Errorf("conflict with %s, want %s", got, want)
	}
}

func TestCarrierFlap(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen()
	a.start("10.9.0.100/24", "fd00:9::100/64")
	a.hold(1, time.Second)
	a.until("held", held)
	a.until("calm", func(s State) bool { return s.Announced >= 12 })
	must(t, l.nl.LinkSetDown(a.port))
	a.until("without carrier", func(s State) bool { return !s.Carrier })
	before := len(e.claims(a, vip4, true))
	must(t, l.nl.LinkSetUp(a.port))
	up := time.Now()
	a.until("with carrier", func(s State) bool { return s.Carrier && s.Held })
	eventually(t, "announced again", func() bool { return len(e.claims(a, vip4, true)) >= before+burstOf })
	t.Logf("announced %v after the carrier was back", time.Since(up))
	// The interface goes down by an operator's hand, which flushes IPv6.
	must(t, a.nl.LinkSetDown(a.link("eth0")))
	a.until("down", func(s State) bool { return !s.Carrier })
	must(t, a.nl.LinkSetUp(a.link("eth0")))
	a.until("up", func(s State) bool { return s.Carrier && s.Held })
	eventually(t, "both back", func() bool { return a.has(vip4) && a.has(vip6) })
}

func TestAddressOfOthersIsAnError(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	for _, where := range []string{"eth0", "lo"} {
		must(t, a.nl.AddrAdd(a.link(where), &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.9.0.100/24"))}))
		for _, do := range []string{"check", "config"} {
			w := a.ask(line{Do: do, Vips: []string{"10.9.0.100/24 dev eth0", "fd00:9::100/64"}})
			if want := "vip 10.9.0.100: " + where + " has 10.9.0.100/24 permanently"; !strings.Contains(w.Err, want) {
				t.Errorf("%s: error %q, want %q in it", do, w.Err, want)
			}
		}
		must(t, a.nl.AddrDel(a.link(where), &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.9.0.100/24"))}))
	}
	if w := a.ask(line{Do: "check", Vips: []string{"10.9.0.100/24", "fd00:9::100/64"}}); w.Err != "" || w.Text != "" {
		t.Errorf("check: error %q, warnings %q", w.Err, w.Text)
	}
	tables, err := a.nft().ListTables()
	if err != nil || len(tables) != 0 {
		t.Errorf("check has left tables: %d, %v", len(tables), err)
	}
}

func TestWhatIsMissing(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	vips := []string{"10.9.0.100/24", "fd00:9::100/64 dev eth0"}
	for _, c := range []struct {
		drop    []uintptr
		want    []string
		notWant string
	}{
		{[]uintptr{unix.CAP_NET_RAW}, []string{"vip 10.9.0.100/24, fd00:9::100/64 dev eth0: needs the capability CAP_NET_RAW to announce the address to its neighbours"}, "CAP_NET_ADMIN"},
		{[]uintptr{unix.CAP_NET_ADMIN}, []string{"CAP_NET_ADMIN to add the address to an interface and to fence it", "CAP_NET_RAW to announce"}, ""},
	} {
		w := a.ask(line{Do: "check", Vips: vips, Drop: c.drop})
		for _, want := range c.want {
			if !strings.Contains(w.Err, want) {
				t.Errorf("without %v: %q, want %q in it", c.drop, w.Err, want)
			}
		}
		if c.notWant != "" && strings.Contains(w.Err, c.notWant) {
			t.Errorf("without %v: %q speaks of %s", c.drop, w.Err, c.notWant)
		}
	}
	b := l.host(12)
	for vips, want := range map[string]string{
		"10.77.0.1/24":           "vip 10.77.0.1/24: no interface has a subnet with this address; say dev INTERFACE",
		"10.9.0.100/24 dev eth7": "vip 10.9.0.100/24 dev eth7: no interface eth7",
		"10.9.0.100/24 dev lo":   "vip 10.9.0.100/24 dev lo: lo has no neighbours to tell",
	} {
		if w := b.ask(line{Do: "check", Vips: []string{vips}}); w.Err != want {
			t.Errorf("%s: %q, want %q", vips, w.Err, want)
		}
	}
}

func TestSweepRemovesOnlyOurs(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	eth0 := a.link("eth0")
	others := []netip.Addr{netip.MustParseAddr("10.9.0.150"), netip.MustParseAddr("10.9.0.151"), netip.MustParseAddr("10.9.0.152"), netip.MustParseAddr("fd00:9::150")}
	must(t, a.nl.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(others[0], 32))}))
	must(t, a.nl.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(others[1], 32)), ValidLft: 100}))
	leaveOurs(t, a, others[2]) // by another cluster on this machine
	must(t, a.nl.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(others[3], 128)), Flags: unix.IFA_F_NODAD}))
	leaveOurs(t, a, vip4)
	leaveOurs(t, a, vip6)
	for _, addr := range append(others, vip4, vip6) {
		if !a.has(addr) {
			t.Fatalf("%v is not there to begin with", addr)
		}
	}
	a.start("10.9.0.100/24", "fd00:9::100/64")
	for _, addr := range []netip.Addr{vip4, vip6} {
		if a.has(addr) {
			t.Errorf("%v is left", addr)
		}
	}
	for _, addr := range others {
		if !a.has(addr) {
			t.Errorf("%v is gone", addr)
		}
	}
}

// leaveOurs adds an address as we do.
func leaveOurs(t *testing.T, h *host, addr netip.Addr) {
	t.Helper()
	inThread(func() {
		must(t, setns(h))
		links, err := readLinks()
		must(t, err)
		for _, l := range links {
			if l.Name == "eth0" {
				must(t, putAddress(placed{addr, l}))
			}
		}
	})
}

// While handing over, packets pass and nobody answers; then the next holder
// claims. At no moment do two answer.
func TestHandover(t *testing.T) {
	l := newLab(t)
	a, b := l.host(11), l.host(12)
	e := l.listen(vip4, vip6)
	for _, h := range []*host{a, b} {
		h.start("10.9.0.100/24", "fd00:9::100/64")
		if w := h.ask(line{Do: "listen", Addr: "10.9.0.100:80"}); w.Err != "" {
			t.Fatal(w.Err)
		}
	}
	a.hold(1, time.Second)
	a.until("held", held)
	e.answersAfter(t, a, vip4, time.Now())
	e.answersAfter(t, a, vip6, time.Now())
	var c net.Conn
	l.in(func() {
		var err error
		c, err = net.Dial("tcp4", "10.9.0.100:80")
		must(t, err)
	})
	defer c.Close()
	exchange := func() {
		t.Helper()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintln(c, "hello")
		if s, err := bufio.NewReader(c).ReadString('\n'); s != "hello\n" {
			t.Fatalf("got %q, %v", s, err)
		}
	}
	exchange()

	a.do(line{Do: "want", Want: Want{Hold: true, Term: 1}, Stand: time.Second})
	a.until("quiet, but passing", func(s State) bool { return s.Held && !s.Answering && !s.Clear })
	quiet := time.Now()
	announced := len(e.claims(a, vip4, true))
	exchange()
	for _, addr := range []netip.Addr{vip4, vip6} {
		if last := e.lastAnswer(a, addr); last.After(quiet.Add(late)) {
			t.Errorf("%v: answered %v after it was quiet", addr, last.Sub(quiet))
		}
	}
	exchange()
	if n := len(e.claims(a, vip4, true)); n != announced {
		t.Errorf("%d announcements while quiet", n-announced)
	}

	b.hold(2, time.Second)
	b.until("held", held)
	e.answersAfter(t, b, vip4, time.Now())
	e.answersAfter(t, b, vip6, time.Now())
	a.do(line{Do: "want"})
	a.until("clear", clean)
	for _, addr := range []netip.Addr{vip4, vip6} {
		if last, first := e.lastAnswer(a, addr), e.claims(b, addr, false)[0].At; !last.Before(first) {
			t.Errorf("%v: the old holder answered %v after the new one had begun", addr, last.Sub(first))
		}
	}
	for _, h := range []*host{a, b} {
		if s := h.until("any", func(State) bool { return true }); len(s.Conflicts) != 0 {
			t.Errorf("conflicts %+v", s.Conflicts)
		}
	}
	// And back: a holder that could not hand over answers again.
	b.do(line{Do: "want", Want: Want{Hold: true, Term: 2}, Stand: time.Second})
	b.until("quiet", func(s State) bool { return s.Held && !s.Answering })
	again := time.Now()
	b.hold(2, time.Second)
	b.until("held", held)
	e.answersAfter(t, b, vip4, again)
}

// A renewal is refused if the fence has closed in the meantime, so a process that was frozen between its
// decision and the call does not open it again.
func TestLateRenewalOpensNothing(t *testing.T) {
	l := newLab(t)
	l.in(func() {
		f := newFence("pen_late", []netip.Addr{vip4, vip6}, 50*time.Millisecond)
		must(t, f.build(0, false))
		must(t, f.open(50*time.Millisecond, true))
		must(t, f.open(50*time.Millisecond, true))
		// Elements do not announce their end.
		time.Sleep(80 * time.Millisecond)
		if err := f.open(50*time.Millisecond, true); !errors.Is(err, errLapsed) {
			t.Errorf("renewal after the end: %v, want %v", err, errLapsed)
		}
		for _, s := range []*nftables.Set{f.pass4, f.pass6, f.answer4, f.answer6} {
			c, err := nftables.New()
			must(t, err)
			if e, err := c.GetSetElements(s); err != nil || len(e) != 0 {
				t.Errorf("%s: %d elements, %v", s.Name, len(e), err)
			}
		}
		must(t, f.open(50*time.Millisecond, true))
		must(t, f.close())
		must(t, f.remove())
	})
}

// A daemon that has given up root keeps two capabilities, and so does its guard.
func TestWithoutRoot(t *testing.T) {
	l := newLab(t)
	a := l.hostOf(11, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
	})
	e := l.listen(vip4, vip6)
	a.start("10.9.0.100/24", "fd00:9::100/64")
	addr, said := l.peer()
	a.hold(7, time.Second)
	a.until("held", held)
	a.giveGuard(addr)
	e.answersAfter(t, a, vip4, time.Now())
	a.signal(syscall.SIGKILL)
	if got, want := said(), "released 7\n"; got != want {
		t.Errorf("the guard said %q, want %q", got, want)
	}
	killed := time.Now()
	eventually(t, "the addresses are gone", func() bool { return !a.has(vip4) && !a.has(vip6) })
	if gone := time.Since(killed); gone > 5*time.Second {
		t.Errorf("gone after %v: not the guard's doing", gone)
	}
}

func TestAnnounceAgain(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen()
	a.start("10.9.0.100/24")
	a.do(line{Do: "announce"})
	a.hold(1, time.Second)
	a.until("held", held)
	eventually(t, "the burst is over for a while", func() bool { return len(e.claims(a, vip4, true)) >= 6 })
	before := len(e.claims(a, vip4, true))
	a.do(line{Do: "announce"})
	eventually(t, "another burst", func() bool { return len(e.claims(a, vip4, true)) >= before+4 })
}
