package state

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what scripts print as what they should print")

// TestScripts runs the files of testdata/script. A line that begins with "> "
// is one command of the machine, with operations between commas; what follows
// is what it prints. Other lines are for the reader. All commands before
// "at SECONDS" happen at second 1000.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, want)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// runScript returns the script as it should be: its commands and comments, with
// what the commands print.
func runScript(t *testing.T, script []byte) []byte {
	var out bytes.Buffer
	s := player{machine: New(), time: 1_000_000}
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&out, line)
			s.play(t, &out, line[2:])
		case !strings.HasPrefix(line, "    "):
			fmt.Fprintln(&out, line)
		}
	}
	return out.Bytes()
}

type player struct {
	machine *Machine
	time    Time
}

func (p *player) play(t *testing.T, out *bytes.Buffer, line string) {
	say := func(format string, args ...any) { fmt.Fprintf(out, "    "+format+"\n", args...) }
	words := strings.Fields(line)
	v := p.machine.View()
	switch words[0] {
	case "at":
		p.time = Time(number10(t, words[1])) * 1000
		return
	case "show":
		p.show(say, words[1:])
		return
	case "lookup":
		for _, a := range words[1:] {
			if e, ok := v.Service("").Clients().Lookup(clientNamed(t, a)); ok {
				say("%s: slot %d, server %d, used %d", a, e.Slot, e.Server, e.Used/1000)
			} else {
				say("%s: unknown", a)
			}
		}
		return
	case "permits":
		for _, a := range words[2:] {
			say("%s: %v", a, v.Permits(listNamed(t, words[1]), clientNamed(t, a), nil))
		}
		return
	case "restart":
		p.machine = restored(t, saved(t, p.machine))
		return
	}
	c := Command{Time: p.time}
	for part := range strings.SplitSeq(line, ", ") {
		c.Ops = append(c.Ops, p.op(t, strings.Fields(part)))
	}
	if r := p.machine.Apply(c); r.Err != nil {
		say("%v", r.Err)
	}
}

func (p *player) show(say func(string, ...any), words []string) {
	v := p.machine.View()
	if len(words) > 0 && words[0] == "clients" {
		for e := range v.Service("").Clients().All() {
			say("%d %s server %d used %d", e.Slot, e.Client, e.Server, e.Used/1000)
		}
		return
	}
	if len(words) > 0 && words[0] == "nodes" {
		for _, n := range words[1:] {
			say("%s drained: %v", n, v.Drained(n))
		}
		return
	}
	if len(words) > 0 && words[0] == "ids" {
		for _, s := range v.Services {
			say("%s %d", s.Name, s.ID)
		}
		return
	}
	for _, o := range Ops(v) {
		say("%v", o)
	}
	for _, o := range marksOf(v) {
		say("%v", o)
	}
}

func number10(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func listNamed(t *testing.T, s string) List {
	l, err := ParseList(s)
	if err != nil && l.Name == "" {
		t.Fatal(err)
	}
	return l // also one with a bad name, which is for the machine to refuse
}

func clientNamed(t *testing.T, s string) netip.Addr {
	if s == "unix" {
		return netip.Addr{}
	}
	return addrNamed(t, s)
}

func addrNamed(t *testing.T, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func indexNamed(t *testing.T, s string) int {
	switch s {
	case "emergency":
		return Emergency
	case "abuse":
		return Abuse
	case "none":
		return None
	case "keep":
		return Keep
	}
	return number10(t, s)
}

func (p *player) op(t *testing.T, w []string) Op {
	service := ""
	if w[0] == "in" {
		service, w = w[1], w[2:]
	}
	switch w[0] {
	case "service":
		return AddService{strings.Join(w[1:], " ")}
	case "no":
		switch w[1] {
		case "service":
			return RemoveService{w[2]}
		case "server":
			return RemoveServer{service, indexNamed(t, w[2])}
		case "acl":
			if l := listNamed(t, w[2]); l.Name != "" {
				return RemoveNamedACL{l.Name}
			}
			return ClearACL{number10(t, w[2])}
		}
	case "request":
		return Request{RequestID{uint8(number10(t, w[1]))}}
	case "drain", "undrain":
		return SetNode{w[1], w[0] == "drain"}
	case "server":
		return serverOp(t, service, w[1:])
	case "fail":
		return Fail{service, indexNamed(t, w[1]), Address{Host: w[2], IP: addrNamed(t, w[2])}, uint16(number10(t, w[3])), Time(number10(t, w[4]))}
	case "recover":
		return Recover{service, indexNamed(t, w[1]), Address{Host: w[2], IP: addrNamed(t, w[2])}, uint16(number10(t, w[3])), Time(number10(t, w[4]))}
	case "acl":
		return aclOp(t, w[1:])
	case "visit":
		return visitOp(t, p.machine.View().Service(service).ID, w[1:])
	case "visits":
		return visitOp(t, uint32(number10(t, w[1])), w[2:])
	}
	for _, o := range Options() {
		if o.String() == w[0] && (o == OptClientList || o != OptClientACL || listNamed(t, w[1]).Name == "") {
			return Set{service, o, valueNamed(t, o, w[1])}
		}
	}
	t.Fatalf("what is %q?", w)
	return nil
}

func serverOp(t *testing.T, service string, w []string) Op {
	o := SetServer{Service: service, Index: indexNamed(t, w[0])}
	for i := 1; i+1 < len(w); i += 2 {
		s := &o.Server
		switch w[i] {
		case "address":
			s.Address = Address{Host: w[i+1]}
			if !s.Path() {
				s.IP = addrNamed(t, w[i+1])
			}
			o.Fields |= FieldAddress
		case "port":
			s.Port = uint16(number10(t, w[i+1]))
			o.Fields |= FieldPort
		case "max":
			s.Soft = number10(t, w[i+1])
			o.Fields |= FieldSoft
		case "weight":
			s.Weight = number10(t, w[i+1])
			o.Fields |= FieldWeight
		case "acl":
			s.ACL = listNamed(t, w[i+1])
			o.Fields |= FieldACL
			if s.ACL.Name != "" {
				o.Fields ^= FieldACL | FieldACLName
			}
		case "mark":
			s.Mark = Time(number10(t, w[i+1]))
			o.Fields |= FieldMark
		default:
			t.Fatalf("what is %q?", w[i])
		}
	}
	return o
}

func aclOp(t *testing.T, w []string) Op {
	e := ACLEntry{Permit: w[1] == "permit"}
	switch {
	case w[2] == "country":
		e.Country = w[3]
	case strings.Contains(w[2], "/"):
		p, err := netip.ParsePrefix(w[2])
		if err != nil {
			t.Fatal(err)
		}
		e.Addr = p.Addr()
		mask := netip.PrefixFrom(allOnes(e.Addr), p.Bits()).Masked()
		e.Mask = mask.Addr()
	default:
		e.Addr = addrNamed(t, w[2])
		if len(w) > 3 {
			e.Mask = addrNamed(t, w[3])
		}
	}
	if l := listNamed(t, w[0]); l.Name != "" {
		return AppendNamedACL{l.Name, e}
	}
	return AppendACL{number10(t, w[0]), e}
}

// visitOp reads CLIENT SERVER [AGO].
func visitOp(t *testing.T, id uint32, w []string) Op {
	v := Visit{Client: clientNamed(t, w[0]), Server: indexNamed(t, w[1])}
	if len(w) > 2 {
		v.Ago = uint32(number10(t, w[2]))
	}
	return Visits{id, []Visit{v}}
}

func valueNamed(t *testing.T, o Option, s string) Value {
	row := options[o]
	for i, w := range row.words {
		if w == s {
			return Int(i)
		}
	}
	switch row.kind {
	case kindBool:
		return Bool(s == "on")
	case kindText:
		return Text(strings.Trim(s, `"`))
	case kindListen:
		l := Listen{Text: s}
		l.Addr, _ = netip.ParseAddrPort(s)
		return Bind(l)
	}
	return Int(number10(t, s))
}
