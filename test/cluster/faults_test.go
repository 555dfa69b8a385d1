//go:build linux

package cluster

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// fault is one thing that goes wrong, and what must be seen of it.
type fault struct {
	name string
	do   func(t testing.TB, s *suite, holder *lab.Node)
	heal func(t testing.TB, s *suite, holder *lab.Node)

	// For how long it lasts; 0: 1.5 s.
	lasts time.Duration
	// The holder stays the same, during the fault and after it.
	stays bool
	// Clients have no way to the nodes that may answer: until it is healed they
	// wait.
	waits bool
	// No connect is refused or lost.
	smooth bool
	// Who is struck, and how: the holder if nobody is named.
	struck condition
	other  bool // not the holder but another
}

// condition is what status must say of the node that a fault has struck.
type condition uint8

const (
	present condition = iota // nothing: it is there
	gone                     // it can not be asked, and the others know that it is away
	alone                    // it says itself that it has no quorum, and the others know that it is away
	halved                   // it hears or is heard, but not both: nobody need know the truth
	drained                  // it is there, and not eligible
)

// The longest gap that is allowed in a test. An election by silence takes a
// quarter of a second; the machine is busy with other tests.
const gapLimit = 2 * time.Second

// Clients that had no way to the holder find it again with the next announcement.
const returnLimit = 4 * time.Second

func nothing(testing.TB, *suite, *lab.Node) {}

func restart(t testing.TB, s *suite, _ *lab.Node) { s.restart(t) }

func heal(t testing.TB, s *suite, _ *lab.Node) { must(t, s.Heal()) }

// one is the side of the holder, many the side of the others.
func one(holder *lab.Node) lab.Side            { return lab.Side{Nodes: []*lab.Node{holder}} }
func many(s *suite, holder *lab.Node) lab.Side { return lab.Side{Nodes: s.others(holder)} }
func with(side lab.Side) lab.Side              { side.Clients = true; return side }

var faults = []fault{
	{name: "holder killed", do: func(_ testing.TB, s *suite, holder *lab.Node) {
		s.Pen(holder).Signal(syscall.SIGKILL)
	}, heal: restart, struck: gone},
	{name: "guard killed", do: func(t testing.TB, s *suite, holder *lab.Node) {
		guard := s.Pen(holder).Guard()
		if guard == 0 {
			t.Fatal("the holder has no guard")
		}
		must(t, syscall.Kill(guard, syscall.SIGKILL))
	}, heal: func(t testing.TB, s *suite, holder *lab.Node) {
		if !rig.Eventually(rig.Patience, func() bool { return s.Pen(holder).Guard() != 0 }) {
			t.Error("the holder goes on without a guard")
		}
	}, stays: true},
	{name: "holder and guard killed", do: func(_ testing.TB, _ *suite, holder *lab.Node) {
		holder.Signal(syscall.SIGKILL)
	}, heal: restart, struck: gone},
	{name: "holder frozen", do: func(_ testing.TB, s *suite, holder *lab.Node) {
		s.Pen(holder).Signal(syscall.SIGSTOP)
	}, heal: func(_ testing.TB, s *suite, holder *lab.Node) {
		s.Pen(holder).Signal(syscall.SIGCONT)
	}, lasts: pick(3*time.Second, 10*time.Second), struck: gone},
	{name: "holder and guard frozen", do: func(_ testing.TB, _ *suite, holder *lab.Node) {
		holder.Signal(syscall.SIGSTOP)
	}, heal: func(_ testing.TB, _ *suite, holder *lab.Node) {
		holder.Signal(syscall.SIGCONT)
	}, lasts: pick(3*time.Second, 10*time.Second), struck: gone},
	{name: "link down", do: func(t testing.TB, _ *suite, holder *lab.Node) {
		must(t, holder.LinkDown())
	}, heal: func(t testing.TB, _ *suite, holder *lab.Node) {
		must(t, holder.LinkUp())
	}, struck: alone},
	{name: "power lost", do: func(t testing.TB, _ *suite, holder *lab.Node) {
		must(t, holder.PowerOff())
	}, heal: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, holder.PowerOn())
		s.restart(t)
	}, struck: gone},
	{name: "holder alone", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.Partition(one(holder), with(many(s, holder))))
	}, heal: heal, struck: alone},
	{
		name: "holder alone with the clients", do: func(t testing.TB, s *suite, holder *lab.Node) {
			must(t, s.Partition(with(one(holder)), many(s, holder)))
		}, heal: heal, waits: true, struck: alone,
		// At this time no announcement is near, and the clients still believe in the old one.
		lasts: pick(0, 5500*time.Millisecond),
	},
	{name: "another node alone", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.Partition(one(s.others(holder)[0]), with(many(s, s.others(holder)[0]))))
	}, heal: heal, stays: true, smooth: true, struck: alone, other: true},
	{name: "another node alone with the clients", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.Partition(with(one(s.others(holder)[0])), many(s, s.others(holder)[0])))
	}, heal: heal, stays: true, waits: true, struck: alone, other: true},
	{name: "holder can not send to the others", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.CutFrom(one(holder), many(s, holder)))
	}, heal: heal, struck: halved},
	{name: "holder can not hear the others", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.CutFrom(many(s, holder), one(holder)))
	}, heal: heal, struck: halved},
	{name: "holder can not send at all", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.CutFrom(one(holder), with(many(s, holder))))
	}, heal: heal, struck: halved},
	{name: "holder can not hear anybody", do: func(t testing.TB, s *suite, holder *lab.Node) {
		must(t, s.CutFrom(with(many(s, holder)), one(holder)))
	}, heal: heal, struck: halved},
	{name: "terminated", do: func(t testing.TB, s *suite, holder *lab.Node) {
		s.Pen(holder).Signal(syscall.SIGTERM)
		if status, ended := s.Pen(holder).Wait(rig.Patience); !ended || status != 0 {
			t.Errorf("pen ended %t with status %d, want 0", ended, status)
		}
	}, heal: restart, smooth: true, struck: gone},
	{name: "transfer", do: func(t testing.TB, s *suite, holder *lab.Node) {
		s.ask(t, holder, "cluster", "transfer")
	}, heal: nothing, smooth: true},
	{name: "drain", do: func(t testing.TB, s *suite, holder *lab.Node) {
		s.ask(t, holder, "cluster", "drain", holder.Addr.String())
	}, heal: func(t testing.TB, s *suite, holder *lab.Node) {
		s.ask(t, holder, "cluster", "undrain", holder.Addr.String())
	}, smooth: true, struck: drained},
}

// All faults befall one cluster, one after the other: each meets what the last
// one has left behind.
func TestFaults(t *testing.T) {
	s := begin(t)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond) // every client comes, and is remembered
	for range pick(1, 20) {
		if long {
			rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		for _, f := range faults {
			if !t.Run(f.name, func(t *testing.T) { befall(t, s, w, f) }) {
				t.Fatalf("not going on after %q", f.name)
			}
		}
	}
}

func befall(t *testing.T, s *suite, w *lab.Watch, f fault) {
	holder := s.holder(t)
	lasts := max(f.lasts, 1500*time.Millisecond)
	before := s.lapses(t)
	from := time.Now()
	f.do(t, s, holder)
	time.Sleep(time.Until(from.Add(lasts)))
	f.tell(t, s, holder)
	healing := time.Now()
	f.heal(t, s, holder)
	s.well(t)
	all := time.Now().Add(1100 * time.Millisecond) // until every client has come again
	after := w.Report(healing, all)
	for after.Clients < clients && time.Since(healing) < rig.Patience { // the machine is slow to let them come
		all = time.Now().Add(time.Second)
		after = w.Report(healing, all)
	}
	during := w.Report(from, healing)
	t.Logf("during:\n%sfrom the healing on:\n%s", during, after)
	f.judge(t, during, after, holder)
	f.judgeConnects(t, during, after, before, s.lapses(t))
	if t.Failed() {
		t.Logf("all that was seen, in ms since the fault:\n%s", w.Trace(from, all))
	}
}

func (f fault) judge(t testing.TB, during, after lab.Report, holder *lab.Node) {
	t.Helper()
	for when, r := range map[string]lab.Report{"during": during, "after": after} {
		must(t, r.Err)
		if r.Doubles > 0 {
			t.Errorf("%s: two nodes answered for the address, for %v", when, r.Overlap)
		}
		if len(r.Strays) > 0 {
			t.Errorf("%s: announced while another answered: %+v", when, r.Strays)
		}
		if r.Moved > 0 {
			t.Errorf("%s: %d of %d clients met another server", when, r.Moved, r.Clients)
		}
		if r.Gap > gapLimit && !f.waits {
			t.Errorf("%s: nobody was answered for %v", when, r.Gap)
		}
	}
	if f.waits && (after.First < 0 || after.First > returnLimit) {
		t.Errorf("clients were answered %v after they had a way to the holder again, want at most %v", after.First, returnLimit)
	}
	f.judgeOwners(t, during, after, holder)
}

// judgeConnects is about what a planned change must not cost.
func (f fault) judgeConnects(t testing.TB, during, after lab.Report, before, since map[*lab.Node]uint64) {
	t.Helper()
	refused, lost := during.Refused+after.Refused, during.Lost+after.Lost
	switch {
	case !f.smooth || refused+lost == 0:
	case refused == 0 && (held(during, before, since) || held(after, before, since)):
		t.Logf("%d connects lost while the machine did not run everybody", lost)
	default:
		t.Errorf("%d connects refused and %d lost, want none", refused, lost)
	}
}

func (f fault) judgeOwners(t testing.TB, during, after lab.Report, holder *lab.Node) {
	t.Helper()
	switch owners := during.Owners; {
	case f.stays && !slices.Equal(owners, []string{holder.Name}):
		t.Errorf("%v answered for the address, want %s all the time", owners, holder.Name)
	case !f.stays && (len(owners) < 1 || len(owners) > 2 || owners[len(owners)-1] == holder.Name):
		t.Errorf("%v answered for the address, want %s and then another", owners, holder.Name)
	}
	heir := during.Owners[max(0, len(during.Owners)-1):]
	if !f.stays && !slices.ContainsFunc(during.Announcements, func(a lab.Announcement) bool { return slices.Contains(heir, a.Node) }) {
		t.Errorf("%v has not announced that it has the address", heir)
	}
	if len(after.Owners) != 1 {
		t.Errorf("after the healing %v answered, want one node: nothing has happened to it", after.Owners)
	}
	if after.Clients != clients {
		t.Errorf("%d clients came back, want all %d", after.Clients, clients)
	}
}
