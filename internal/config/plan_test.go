package config

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

func TestAPlanIsForAllOrForNone(t *testing.T) {
	statements := read(t, "blacklist 5\nserver 0 address nosuch port 80\nlisten gone:80\nsource away\nserver 1 address www1 port 80\n")
	p, err := planner().Plan(t.Context(), statements)
	want := "pen.conf:2:1: server 0 address nosuch: resolve nosuch: no such host\n" +
		"pen.conf:3:1: listen: resolve gone: no such host\n" +
		"pen.conf:4:1: resolve away: no such host"
	if p != nil || err == nil || err.Error() != want {
		t.Errorf("got %v, %v, want %s", p, err, want)
	}
}

func TestWhatTheStateRefusesHasItsPlace(t *testing.T) {
	var b strings.Builder
	for i := range state.MaxServices + 2 {
		fmt.Fprintf(&b, "service s%d\ntimeout 4\n", i)
	}
	_, err := planner().Plan(t.Context(), read(t, b.String()))
	var errs Errors
	if !errors.As(err, &errs) || errs[0].Line != 2*(state.MaxServices-1)+1 {
		t.Errorf("got %v", err)
	}
}

func TestReadingAgainDoesNotAddEntriesTwice(t *testing.T) {
	first := read(t, "acl 1 permit 10.0.0.0/8\nacl 1 deny 10.1.0.0/16\nacl 2 permit 1.2.3.4\nserver 0 address 10.0.0.1 port 80\n")
	p := planner()
	p.View = plan(t, first).View
	second := read(t, "acl 1 deny 10.2.0.0/16\n")
	for _, c := range []struct {
		rebuild bool
		want    int
	}{{false, 3}, {true, 1}} {
		p.Rebuild = c.rebuild
		again, err := p.Plan(t.Context(), second)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(again.View.ACL[1].Entries); got != c.want {
			t.Errorf("rebuild %v: list 1 has %d entries, want %d", c.rebuild, got, c.want)
		}
		if len(again.View.ACL[2].Entries) != 1 || len(again.View.Services[0].Servers) != 1 {
			t.Errorf("rebuild %v: other things are gone", c.rebuild)
		}
	}
	p.Rebuild = true
	again, err := p.Plan(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if d := state.Diff(p.View, again.View); len(d) != 0 {
		t.Errorf("reading the same file again changes %v", d)
	}
}

func TestRemovingWhatIsNotThereIsNoMistakeInAFile(t *testing.T) {
	text := "server 0 address 10.0.0.1 port 80\nserver 1 address 10.0.0.2 port 80\nno server 1\nno server 7\nno service gone\nno emergency\nno abuse\nservice a\nno service a\nno service a\n"
	p := plan(t, read(t, text))
	if n := len(p.View.Services[0].Servers); n != 1 || len(p.View.Services) != 1 {
		t.Errorf("got %d servers, %d services", n, len(p.View.Services))
	}
}

func TestStartSettingsStayWhileRunning(t *testing.T) {
	p := planner()
	p.Local, p.Rebuild = Local{Control: "1111", Debug: 1}, true
	got, err := p.Plan(t.Context(), read(t, "control 2222\ndebug 3\nuser nobody\n"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "local", got.Local, Local{Control: "1111", Debug: 3, Filed: map[string]string{"control": "control 2222", "user": "user nobody"}})
	if p.Local.Filed != nil {
		t.Error("the planner's own settings have changed")
	}
}

func TestNamesAreAskedForAtOnceAndOnce(t *testing.T) {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "server %d address h%d port 80\nserver %d address h%d port 81\n", i, i, 20+i, i)
	}
	statements := read(t, b.String())
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		p := planner()
		p.Resolve = func(context.Context, string) (netip.Addr, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return netip.MustParseAddr("10.0.0.1"), nil
		}
		start := time.Now()
		if _, err := p.Plan(t.Context(), statements); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second || asked.Load() != 20 {
			t.Errorf("took %v and %d questions, want 1s and 20", took, asked.Load())
		}
	})
}

func TestNamesHaveADeadline(t *testing.T) {
	statements := read(t, "server 0 address slow port 80\n")
	synctest.Test(t, func(t *testing.T) {
		p := planner()
		p.Resolve = func(ctx context.Context, _ string) (netip.Addr, error) {
			<-ctx.Done()
			return netip.Addr{}, ctx.Err()
		}
		start := time.Now()
		_, err := p.Plan(t.Context(), statements)
		if took := time.Since(start); took != defaultPatience || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestTheDefaultPortIsThatOfTheListenerThatWillBe(t *testing.T) {
	p := plan(t, read(t, "emergency 10.0.0.1\nlisten 81\nlisten 82\nservice web\nlisten 83\nabuse 10.0.0.2\n"))
	if got := p.View.Services[0].Emergency.Port; got != 82 {
		t.Errorf("default: got %d, want 82", got)
	}
	if got := p.View.Services[1].Abuse.Port; got != 83 {
		t.Errorf("web: got %d, want 83", got)
	}
}
