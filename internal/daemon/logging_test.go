package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
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
