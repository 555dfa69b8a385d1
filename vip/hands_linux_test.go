package vip

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A process that was frozen finds, when it wakes, the announcements of whoever had
// the address meanwhile. They were rightful: its own lease had ended.
func TestClaimsOfASleepAreNoConflict(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	e := l.listen()
	a.start("10.9.0.100/24", "fd00:9::100/64")
	heir := net.HardwareAddr{2, 0, 0, 0, 0, 0x55}
	for term := range uint64(5) {
		a.hold(2*term+1, 100*time.Millisecond)
		a.until("held", held)
		a.signal(syscall.SIGSTOP)
		time.Sleep(250 * time.Millisecond) // longer than the lease and the guard's patience
		for range 20 {
			for _, addr := range []netip.Addr{vip4, vip6} {
				frame, err := announcement(heir, addr)
				must(t, err)
				e.send(frame)
			}
		}
		time.Sleep(20 * time.Millisecond)
		a.signal(syscall.SIGCONT)
		// It has the address again, by another lease, before it has read them.
		a.hold(2*term+2, 100*time.Millisecond)
		a.until("held again", func(s State) bool { return s.Term == 2*term+2 && held(s) })
		if s := a.until("held", held); len(s.Conflicts) > 0 {
			t.Fatalf("sleep %d: conflicts %+v", term+1, s.Conflicts)
		}
	}
	// One that is sent now is one.
	frame, err := announcement(heir, vip4)
	must(t, err)
	e.send(frame)
	a.until("a conflict", func(s State) bool { return len(s.Conflicts) == 1 })
}

func TestDeletedAgainAndAgain(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24")
	a.hold(1, time.Second)
	a.until("held", held)
	before := cpu(t, a.cmd.Process.Pid)
	dropped := uint64(0)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if a.nl.AddrDel(a.link("eth0"), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(vip4, 32))}) == nil {
			dropped++
		}
		a.mu.Lock()
		if a.err != "" {
			t.Errorf("not fit to hold it: %s", a.err)
		}
		a.mu.Unlock()
	}
	s := a.until("held", func(s State) bool { return held(s) && s.Readded == dropped })
	used := cpu(t, a.cmd.Process.Pid) - before
	t.Logf("removed %d times, added again %d times, CPU %v", dropped, s.Readded, used)
	if dropped < 20 || used > time.Second {
		t.Errorf("removed %d times, and it took %v of CPU", dropped, used)
	}
	if !a.log.has("was removed by others and added again") {
		t.Error("nothing in the log")
	}
}

func TestAgeOfAFrame(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(tm time.Time) []byte {
		b := make([]byte, unix.CmsgSpace(16))
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(16)))
		binary.NativeEndian.PutUint32(b[8:], unix.SOL_SOCKET)
		binary.NativeEndian.PutUint32(b[12:], unix.SCM_TIMESTAMPNS)
		binary.NativeEndian.PutUint64(b[16:], uint64(tm.Unix()))
		binary.NativeEndian.PutUint64(b[24:], uint64(tm.Nanosecond()))
		return b
	}
	for _, c := range []struct {
		name string
		oob  []byte
		want time.Duration
	}{
		{"a moment", at(now.Add(-3 * time.Millisecond)), 3 * time.Millisecond},
		{"a sleep", at(now.Add(-10 * time.Second)), 10 * time.Second},
		{"the clock was set back", at(now.Add(24 * time.Hour)), 0},
		{"the clock was set forward", at(now.Add(-24 * time.Hour)), 0},
		{"no time", nil, 0},
		{"cut off", at(now.Add(-time.Second))[:20], 0},
	} {
		if got := ageOf(c.oob, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// cpu is what a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	// The clock of a process, as clock_getcpuclockid makes it.
	must(t, unix.ClockGettime(int32(^pid<<3|2), &ts))
	return time.Duration(ts.Nano())
}

func TestInterfaceOfAnotherName(t *testing.T) {
	l := newLab(t)
	a, b := l.host(11), l.host(12)
	e := l.listen()
	a.start("10.9.0.100/24")          // by the subnet
	b.start("10.9.0.101/24 dev eth0") // by its name
	for _, h := range []*host{a, b} {
		h.hold(1, time.Second)
		h.until("held", held)
		rename(t, h, "eth0", "lan0")
	}
	eventually(t, "known by the subnet: followed", func() bool { return a.log.has("the address has another interface now") })
	a.until("held", func(s State) bool { return held(s) && s.Carrier })
	if !a.has(vip4) {
		t.Error("known by the subnet: the address is not there")
	}
	before := len(e.claims(a, vip4, true))
	eventually(t, "announced from the new name", func() bool { return len(e.claims(a, vip4, true)) > before })
	b.until("known by its name: lost", func(s State) bool { return !s.Held })
	eventually(t, "said", func() bool { return b.log.has("no interface eth0 for 10.9.0.101") })
	if b.has(netip.MustParseAddr("10.9.0.101")) {
		t.Error("known by its name: the address stays at another interface")
	}
	rename(t, b, "lan0", "eth0")
	b.until("known by its name: back", held)
}

// rename does it as people must on older kernels: not while it is up.
func rename(t *testing.T, h *host, from, to string) {
	t.Helper()
	nic := h.link(from)
	must(t, h.nl.LinkSetDown(nic))
	must(t, h.nl.LinkSetName(nic, to))
	must(t, h.nl.LinkSetUp(nic))
}

func TestInterfaceMadeAgain(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24")
	a.hold(1, time.Second)
	a.until("held", held)
	must(t, l.nl.LinkDel(a.port)) // the pair goes, with all addresses
	a.until("lost", func(s State) bool { return !s.Held })
	eventually(t, "said", func() bool { return a.log.has("no interface eth0 for 10.9.0.100") })
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port11", MasterIndex: l.br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsPid(a.cmd.Process.Pid)}
	must(t, l.nl.LinkAdd(port))
	again, err := l.nl.LinkByName("port11")
	must(t, err)
	must(t, l.nl.LinkSetUp(again))
	configure(t, a.nl, a.link("eth0"), prefix("10.9.0.11/24"))
	a.until("held again", func(s State) bool { return held(s) && s.Carrier })
	if !a.has(vip4) {
		t.Error("the address is not at the new interface")
	}
	e := l.listen()
	mac := a.link("eth0").Attrs().HardwareAddr.String()
	a.do(line{Do: "announce"})
	eventually(t, "announced by the new MAC", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.ContainsFunc(e.all, func(h heard) bool { return h.MAC == mac && h.Addr == vip4 })
	})
}

func TestGuardThatIsKilledAgainAndAgain(t *testing.T) {
	l := newLab(t)
	a := l.host(11)
	a.start("10.9.0.100/24")
	a.hold(1, patienceOfTests)
	a.until("held", held)
	began := time.Now()
	for n := range uint64(4) { // pauses of 50, 100, 200 and 400 ms
		syscall.Kill(a.guardPid(), syscall.SIGKILL)
		s := a.until("replaced and counted", func(s State) bool { return s.GuardEnds > n && s.Fences.Guard })
		if !s.Held {
			t.Error("a guard is no reason to let go")
		}
	}
	if took := time.Since(began); took < 750*time.Millisecond {
		t.Errorf("four guards within %v: nothing holds them back", took)
	}
	if !a.log.has("the guard of the virtual addresses has ended") {
		t.Error("nothing in the log")
	}
}
