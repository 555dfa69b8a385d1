package config

import (
	"errors"
	"os"
	"strings"
	"testing"

	"pen/state"
)

// Every fuzz test also checks that what is accepted can be carried out or is
// refused properly, and that what the state takes can be written and read back.

func carryOut(t *testing.T, statements []Statement) (then, again Local) {
	t.Helper()
	p, errs := planner().plan(t.Context(), statements)
	for _, e := range errs {
		if e.What == "" {
			t.Errorf("an error without a text: %+v", e)
		}
	}
	var b strings.Builder
	if err := Write(&b, p.View, p.Local, noon); err != nil {
		t.Fatal(err)
	}
	read, err := ParseReader("written", strings.NewReader(b.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	back, errs := planner().plan(t.Context(), read)
	if len(errs) > 0 {
		t.Fatalf("%v in\n%s", errs, b.String())
	}
	if d := state.Diff(p.View, back.View); len(d) > 0 {
		t.Fatalf("%v is missing from\n%s", d, b.String())
	}
	for i := range statements {
		statements[i].Reply(p.View, &p.Local)
	}
	return p.Local, back.Local
}

func FuzzFile(f *testing.F) {
	for _, name := range []string{"mistakes.conf", "mistakes_cluster.conf", "cluster.conf", "original.conf", "written.conf"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			t.Skip("files are another's matter")
		}
		statements, err := ParseReader("f", strings.NewReader(text))
		if errs, ok := errors.AsType[Errors](err); err != nil && (!ok || len(errs) == 0) {
			t.Errorf("got %T", err)
		}
		if then, again := carryOut(t, statements); then.Membership.Differs(again.Membership) != nil {
			t.Errorf("%+v was written and reads as %+v", then.Membership, again.Membership)
		}
	})
}

func FuzzControl(f *testing.F) {
	for _, line := range []string{
		"server 3 address 10.0.0.1 port 80 max", "service web no hash", "no", "acl 1 permit ::1/64", "acl 9 deny 1.2.3.4 255.0.0.255",
		"emergency [::1]:80:1:2:3:4", "blacklist 99999999999\r\nx", "no service web", "source 127.1", "listen :::80", "control x", "hash compat",
		"cluster json", "cluster drain n-1", "cluster transfer", "peers 10.0.0.1", "vip", "preempt 4",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, reply := ParseControl(line)
		if (s == nil) == (reply == nil) {
			t.Fatalf("got %v and %v", s, reply)
		}
		if s != nil && !s.Word.NeedsHandler() {
			carryOut(t, []Statement{*s})
		}
	})
}

func FuzzArgs(f *testing.F) {
	for _, line := range []string{
		"-f 8080 127.0.0.1:9001 127.0.0.1:9002:10", "-dd -b 30 -- 80 h", "--server=0 port 80", "--no-hash --timeout 4 -Ox", "-e ::1 -B [::1 -x -1 foo",
		"--service web --listen 81 -O acl 1 permit 10.0.0.1", "-C 8888 -p x -u y -w z",
		"--cluster shop --peers 10.0.0.1,10.0.0.2:7:witness,[::1]:prio=-3 --vip 10.0.0.9/24 --self 10.0.0.1 --preempt never --timing wan 80 h",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "include") {
			t.Skip("files are another's matter")
		}
		c, err := ParseArgs(strings.Split(line, " "))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		carryOut(t, c.With(nil))
	})
}

func FuzzServer(f *testing.F) {
	for _, text := range []string{"h:80:1:2:3:4", "[::1]:80", "/run/x:1:7", "h::5", "127.1:x", "h:80:99999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseServer(text)
		if err != nil {
			return
		}
		if again, err := parseServerStrictly(spec.String()); err != nil || again.String() != spec.String() {
			t.Errorf("%q became %q, which reads as %q, %v", text, spec, again, err)
		}
	})
}

func FuzzListen(f *testing.F) {
	for _, text := range []string{"8080", ":::80", "::1:80", "127.0.0.1:0", "http-alt", "/run/x", "[::1]:80", "*:80"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e := &environment{ctx: t.Context(), resolve: names}
		l, err := e.listen(text)
		if err == nil && (l.Text != text || l.Path() == "" && !l.Addr.IsValid()) {
			t.Errorf("%q became %+v", text, l)
		}
	})
}

func FuzzPeer(f *testing.F) {
	for _, text := range []string{
		"10.0.0.1", "10.0.0.1:8000:witness:prio=-4", "2001:db8::1", "[2001:db8::1]:7950:prio=9", "2001:db8::1:witness", "[::1", "fe80::1%0:1",
		"10.0.0.1:07950", "10.0.0.1::", "1.2.3.4:prio=", "node:1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePeer(text)
		if err != nil {
			return
		}
		if again, err := parsePeer(p.String()); err != nil || again != p {
			t.Errorf("%q became %v, which reads as %v, %v", text, p, again, err)
		}
	})
}

func FuzzVIP(f *testing.F) {
	for _, text := range []string{"10.0.0.10/24", "2001:db8::1/64 dev eth0", "fe80::1/64 dev eth0", "10.0.0.10/031", "1.2.3.4/+8", "::ffff:1.2.3.4/96", "10.0.0.1/24 dev"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseVIP(strings.Fields(text))
		if err != nil {
			return
		}
		if again, err := parseVIP(strings.Fields(v.String())); err != nil || again != v {
			t.Errorf("%q became %v, which reads as %v, %v", text, v, again, err)
		}
	})
}
