package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"text alone", func(l *slog.Logger) { l.Info("do_ctrl: not from there") }, "do_ctrl: not from there"},
		{
			"attributes", func(l *slog.Logger) {
				l.Warn("connect failed", "backend", netip.MustParseAddrPort("[::1]:80"), "server", 1, "err", errors.New("refused"), "took", 3*time.Second)
			},
			`connect failed backend=[::1]:80 server=1 err=refused took=3s`,
		},
		{
			"quoted", func(l *slog.Logger) { l.Info("file", "a", "two words", "b", "", "c", `say "x"`, "d", "k=v") },
			`file a="two words" b="" c="say \"x\"" d="k=v"`,
		},
		{
			"nothing breaks out", func(l *slog.Logger) { l.Info("one\ntwo", "a", "x\n2026: fake", "b", "\x1b[2J", "c\nd", "\xff") },
			`one\ntwo a="x\n2026: fake" b="\x1b[2J" c\nd="\xff"`,
		},
		{
			"with and groups", func(l *slog.Logger) {
				l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3, slog.Group("h", "d", 4), slog.Group("", "e", 5))
			},
			`m a=1 g.b=2 g.c=3 g.h.d=4 g.e=5`,
		},
		{"empty attribute", func(l *slog.Logger) { l.Info("m", slog.Attr{}) }, "m"},
		{"valuer", func(l *slog.Logger) { l.Info("m", "v", valuer{}) }, "m v=resolved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tt.log(newJournal(&out, 0).log)
				want := time.Now().Format("2006-01-02 15:04:05") + ": " + tt.want + "\n"
				if out.String() != want {
					t.Errorf("got  %swant %s", out.String(), want)
				}
			})
		})
	}
}

type valuer struct{}

func (valuer) LogValue() slog.Value { return slog.StringValue("resolved") }

// Two loggers made from one must not write into each other's attributes.
func TestLoggersDoNotShareAttributes(t *testing.T) {
	var out bytes.Buffer
	base := newJournal(&out, 0).log.With("a", strings.Repeat("x", 100))
	one, two := base.With("b", 1), base.With("b", 2)
	one.Info("m")
	two.Info("m")
	if got := out.String(); strings.Count(got, "b=1") != 1 || strings.Count(got, "b=2") != 1 {
		t.Errorf("got %s", got)
	}
}

func TestDebugLevels(t *testing.T) {
	var out bytes.Buffer
	j := newJournal(&out, 0)
	for debug, want := range []string{"info ", "info one ", "info one two ", "info one two dump "} {
		out.Reset()
		j.debug(debug)
		for _, m := range []struct {
			level slog.Level
			text  string
		}{{slog.LevelInfo, "info"}, {levelOf(1), "one"}, {levelOf(2), "two"}, {levelOf(3), "dump"}} {
			j.log.Log(t.Context(), m.level, m.text)
		}
		got := ""
		for line := range strings.Lines(out.String()) {
			got += strings.TrimSpace(line[len("2006-01-02 15:04:05: "):]) + " "
		}
		if got != want {
			t.Errorf("debug %d: got %q, want %q", debug, got, want)
		}
	}
}

func TestJournalIsDiverted(t *testing.T) {
	var out bytes.Buffer
	j := newJournal(&out, 0)
	log := j.log.With("a", 1)
	var got string
	j.divert(func(_ time.Time, level slog.Level, line []byte) { got = level.String() + " " + string(line) })
	log.Error("m")
	if want := "ERROR m a=1"; got != want || out.Len() != 0 {
		t.Errorf("got %q and %q, want %q", got, out.String(), want)
	}
	if j.log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("debug is on")
	}
}

// runJournal runs j until the function that it returns is called.
func runJournal(j *journal) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { j.run(ctx) })
	return func() { cancel(); running.Wait() }
}

// Who reads the log may stop reading, and the service goes on. It hears what the
// queue had room for, in order, and how much it missed.
func TestStalledReaderOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		j := newJournal(w, 0)
		stop := runJournal(j)
		synctest.Wait()
		begin := time.Now()
		for i := range queueRoom + 100 {
			j.log.Info(fmt.Sprintf("message %d;", i))
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("logging waited %v", took)
		}
		if n := j.dropped(); n < 99 || n > 100 {
			t.Errorf("dropped %d", n)
		}
		var heard strings.Builder
		var listening sync.WaitGroup
		listening.Go(func() { io.Copy(&heard, r) })
		time.Sleep(time.Second)
		j.log.Info("again")
		stop()
		j.log.Info("directly")
		w.Close()
		listening.Wait()
		at := -1
		for _, want := range []string{"message 0;", "message 1;", "message 1000;", "log messages dropped count=", "again", "directly"} {
			i := strings.Index(heard.String(), want)
			if i <= at {
				t.Errorf("%q is at %d, after what was at %d", want, i, at)
			}
			at = i
		}
	})
}

// A reader that stalls for good does not keep the process from ending.
func TestLogEndsThoughNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer r.Close()
		j := newJournal(w, 0)
		stop := runJournal(j)
		synctest.Wait()
		for range 10 {
			j.log.Info("m")
		}
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > queueFlush {
			t.Errorf("took %v", took)
		}
		j.log.Info("nobody waits after that either")
	})
}

// What is queued when the process ends still gets out.
func TestLogIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		j := newJournal(&out, 0)
		j.log.Info("at the start")
		if !strings.HasSuffix(out.String(), ": at the start\n") {
			t.Errorf("got %q at the start", out.String())
		}
		stop := runJournal(j)
		synctest.Wait()
		for i := range 100 {
			j.log.Info(fmt.Sprintf("message %d;", i))
		}
		stop()
		if !strings.Contains(out.String(), "message 99;") || j.dropped() != 0 {
			t.Errorf("dropped %d, got %q", j.dropped(), out.String())
		}
	})
}
