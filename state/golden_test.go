package state

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golden returns what a file of a format held when it was made. Files are only
// added: they are what programs of that version have left on disks.
func golden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "format", name)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, now, 0o644); err != nil {
			t.Fatal(err)
		}
		return now
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenState is a state of a level with something of everything in it.
func goldenState(t *testing.T, level Level) *Machine {
	t.Helper()
	m := New()
	commands := []Command{
		{Time: 1000, By: "config", Ops: []Op{
			SeedWith{[]byte("seed")},
			AddService{"web"},
			Set{"web", OptListen, Bind(Listen{"10.0.0.9:80", netip.MustParseAddrPort("10.0.0.9:80")})},
			Set{"", OptTimeout, Int(7)},
			Set{"web", OptSource, Text("10.0.0.9")},
			SetServer{"web", 0, firstFields, Server{Address: Address{"www1", netip.MustParseAddr("10.0.0.1")}, Port: 80, Soft: 1, Hard: 2, Weight: 3, Prio: 4, ACL: Numbered(5)}},
			SetServer{"web", 1, FieldAddress | FieldPort, Server{Address: Address{"10.0.0.2", netip.MustParseAddr("10.0.0.2")}, Port: 81}},
			AppendACL{1, ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.0.0.0"), Mask: netip.MustParseAddr("255.0.0.0")}},
			AppendACL{1, ACLEntry{Country: "SE"}},
		}},
		{Time: 2000, By: "a node", Ops: []Op{Request{RequestID{1}}, SetNode{"00000000000000000000000000000001", true}, Fail{"web", 1, Address{"10.0.0.2", netip.MustParseAddr("10.0.0.2")}, 81, 1900}}},
		{Time: 3000, Ops: []Op{Visits{2, []Visit{{client(1), 0, 1}, {client(2), 1, 0}, {netip.MustParseAddr("2001:db8::1"), 1, 0}}}}},
	}
	if level >= 2 {
		commands = append(commands, Command{Time: 4000, By: "the leader", Ops: []Op{SetLevel{2}}},
			Command{Time: 5000, By: "control", Ops: []Op{Request{RequestID{2}}, Set{"web", OptTimeout, Int(9)}, Stamp{5100}}},
			Command{Time: 6000, By: "restore", Ops: []Op{SetClients{"", []Visit{{client(9), None, 5}}}}})
	}
	for i, c := range commands {
		if r := m.Apply(c); r.Err != nil {
			t.Fatalf("command %d: %v", i, r.Err)
		}
	}
	return m
}

// describe says what is in a state, for people who compare.
func describe(v *View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "index %d, time %d, level %d, seed %q, drained %v, %d requests\n", v.Index, v.Time, v.Level(), v.Seed, v.drained, len(v.requests))
	for _, o := range Diff(New().View(), v) {
		fmt.Fprintf(&b, "%v\n", o)
	}
	for _, s := range v.Services {
		for i := range s.Servers {
			if server := s.Server(i); server != nil && server.Mark != 0 {
				fmt.Fprintf(&b, "%s server %d failed at %d\n", s.Name, i, server.Mark)
			}
		}
		for e := range s.Clients().All() {
			fmt.Fprintf(&b, "%s client %v server %d used %d\n", s.Name, e.Client, e.Server, e.Used)
		}
	}
	for _, c := range v.Changes() {
		fmt.Fprintf(&b, "change at %d by %s: %v\n", c.Time, c.By, c.Ops())
	}
	return b.String()
}

// TestSnapshotFormatStays: snapshots of every level that was ever written give the
// state that was in them.
func TestSnapshotFormatStays(t *testing.T) {
	for level := Level(1); level <= Newest; level++ {
		m := goldenState(t, level)
		now := saved(t, m)
		name := fmt.Sprintf("snapshot-%d", level)
		kept := golden(t, name+".bin", now)
		if !bytes.Equal(now, kept) {
			t.Errorf("%s is written otherwise now: programs of that level could not read it", name)
		}
		got := describe(restored(t, kept).View())
		if want := string(golden(t, name+".txt", []byte(got))); got != want {
			t.Errorf("%s gives\n%s, want\n%s", name, got, want)
		}
	}
}

// firstFields are those of the first version.
const firstFields = FieldMark<<1 - 1

// goldenOps has one operation of each number.
func goldenOps() []Op {
	server := Server{Address: Address{"www1", netip.MustParseAddr("10.0.0.1")}, Port: 80, Soft: 1, Hard: -2, Weight: 3, Prio: 4, ACL: Numbered(5), Mark: 6}
	visits := []Visit{{netip.Addr{}, Keep, 0}, {netip.MustParseAddr("10.0.0.1"), 4095, 7}, {netip.MustParseAddr("2001:db8::1"), None, 1}}
	return []Op{
		AddService{"web"},
		RemoveService{"web"},
		Set{"web", OptListen, Bind(Listen{"[fe80::1%eth0]:80", netip.MustParseAddrPort("[fe80::1%eth0]:80")})},
		SetServer{"web", Emergency, firstFields, server},
		RemoveServer{"web", 4095},
		Fail{"web", 1, server.Address, 80, 78},
		Recover{"web", 1, server.Address, 80, 77},
		AppendACL{1, ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.0.0.1"), Mask: netip.MustParseAddr("255.255.255.0")}},
		ClearACL{9},
		Visits{7, visits},
		SeedWith{[]byte{1, 2, 3}},
		Request{RequestID{1, 2}},
		SetNode{"00000000000000000000000000000001", true},
		Seeded{[32]byte{3}},
		SetLevel{2},
		SetClients{"web", visits},
		Stamp{-5},
		RotateTickets{77, [32]byte{1, 31: 2}},
		AppendNamedACL{"office", ACLEntry{Addr: netip.MustParseAddr("2001:db8::"), Mask: netip.MustParseAddr("ffff:ffff::")}},
		RemoveNamedACL{"office"},
		Move{"web", 1, server.Address, netip.MustParseAddr("2001:db8::7")},
	}
}

// TestCommandFormatStays: a line for each operation, as it is in logs.
func TestCommandFormatStays(t *testing.T) {
	all := goldenOps()
	for i, o := range all {
		if int(o.op()) != i+1 {
			t.Fatalf("operation %d is %T", i+1, o)
		}
	}
	if len(all) != len(codes)-1 {
		t.Fatalf("%d operations, want one of each of %d", len(all), len(codes)-1)
	}
	all = slices.DeleteFunc(all, func(o Op) bool { return o.op().level() > Newest })
	for _, o := range all {
		c := Command{Time: 1000, By: "me", Ops: []Op{o}}
		now := encoded(t, c)
		kept := golden(t, fmt.Sprintf("command-%02d.bin", o.op()), now)
		if !bytes.Equal(now, kept) {
			t.Errorf("%T is %x now, and %x in logs", o, now, kept)
		}
		got, err := Decode(kept)
		if err != nil {
			t.Errorf("%T: %v", o, err)
			continue
		}
		same(t, fmt.Sprintf("%T", o), got, c)
	}
}

// TestLaterFormatsAreRefused: with a text, before anything of them is used.
func TestLaterFormatsAreRefused(t *testing.T) {
	b := encoded(t, Command{})
	b[0] = commandVersion + 1
	if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Errorf("command: %v", err)
	}
	snapshot := saved(t, New())
	snapshot[len(snapshotMagic)]++
	if err := New().Restore(bytes.NewReader(snapshot)); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Errorf("snapshot: %v", err)
	}
	b = encoded(t, Command{Ops: []Op{ClearACL{}}})
	b[len(b)-2] = byte(len(codes))
	if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("unknown operation %d", len(codes))) {
		t.Errorf("operation: %v", err)
	}
}
