package config

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"pen/state"
	"pgregory.net/rapid"
)

// anyText draws what people and programs send as a name or a path, and worse.
func anyText(t *rapid.T) string {
	text := rapid.SampledFrom([]string{
		"/run/page.html", "#y", "/a#b", "a\tb", "/\x1b[2J", "\x7f", "\ufeff", "/\xff", "\u00a0", "\u2028", "'", "\"x\"", "\\", "no", "service",
		"www1", "10.0.0.1", "::1", "[::1]:80", "*:80", "#h:80", "h\t:80:1", "/run/x\ty", "127.0.0.1:80#", "(unknown", "(null)", "-1", "99999999999", "80",
		strings.Repeat("x", 300), "/" + strings.Repeat("y", 4080), "/" + strings.Repeat("z", 4090),
	})
	return rapid.OneOf(text, rapid.String(), rapid.StringMatching(`[ -~]{1,8}`)).Draw(t, "text")
}

// anyCommand draws a command of the control port: mostly a word with arguments
// that may or may not suit it.
func anyCommand(t *rapid.T) string {
	var parts []string
	if rapid.IntRange(0, 4).Draw(t, "service?") == 0 {
		parts = append(parts, "service web")
	}
	if rapid.IntRange(0, 5).Draw(t, "no?") == 0 {
		parts = append(parts, "no")
	}
	word := rapid.SampledFrom(Words()).Draw(t, "word")
	if rapid.Bool().Draw(t, "with a text?") {
		word = Lookup(rapid.SampledFrom([]string{"web_stats", "listen", "source", "emergency", "abuse", "server", "log", "control", "user"}).Draw(t, "text word"))
	}
	parts = append(parts, word.Name)
	if word.Name == "server" {
		parts = append(parts, rapid.SampledFrom([]string{"0", "1", "x"}).Draw(t, "number"), "address")
	}
	for range rapid.IntRange(0, 3).Draw(t, "arguments") {
		parts = append(parts, anyText(t))
	}
	return strings.Join(parts, rapid.SampledFrom([]string{" ", " ", "  ", "\t"}).Draw(t, "between"))
}

// Whatever was said on the control port, `write` makes a file that is read back
// without a complaint and means the same.
func TestWhatTheControlPortTookReadsBack(t *testing.T) {
	anybody := func(context.Context, string) (netip.Addr, error) { return netip.MustParseAddr("10.0.1.1"), nil }
	rapid.Check(t, func(t *rapid.T) {
		p := Planner{Resolve: anybody, Now: noon, Running: true, View: state.New().View()}
		p.Local.File = anyText(t)
		p.Local.Control = anyText(t)
		lines := []string{"service web", "listen 80"}
		for range rapid.IntRange(1, 5).Draw(t, "commands") {
			lines = append(lines, anyCommand(t))
		}
		for _, line := range lines {
			s, reply := ParseControl(line)
			if reply != nil || s.Word.NeedsHandler() {
				continue
			}
			if plan, err := p.Plan(t.Context(), []Statement{*s}); err == nil {
				p.View, p.Local = plan.View, plan.Local
			}
		}
		var b strings.Builder
		if err := Write(&b, p.View, p.Local, noon); err != nil {
			t.Fatal(err)
		}
		statements, err := ParseReader("written", strings.NewReader(b.String()))
		if err != nil {
			t.Fatalf("%v\nafter %q in\n%s", err, lines, b.String())
		}
		back, err := Planner{Resolve: anybody, Now: noon}.Plan(t.Context(), statements)
		if err != nil {
			t.Fatalf("%v\nafter %q in\n%s", err, lines, b.String())
		}
		if d := state.Diff(p.View, back.View); len(d) > 0 || back.Local.WebStats != p.Local.WebStats {
			t.Fatalf("%v, %q is missing\nafter %q in\n%s", d, p.Local.WebStats, lines, b.String())
		}
	})
}

func TestTextsThatCanNotBeSavedAreRefused(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct{ ask, want string }{
		{"web_stats #y", `error: web_stats: "#y" begins a comment in a file`},
		{"web_stats /a\tb", `error: web_stats: "/a\tb" has blanks or control characters`},
		{"web_stats /\x1b[2J", `error: web_stats: "/\x1b[2J" has blanks or control characters`},
		{"web_stats /" + strings.Repeat("x", MaxLine), "error: web_stats: a name longer than 4085 bytes does not fit into a line of a file"},
		{"write #x", `error: write: "#x" begins a comment in a file`},
		{"include a\tb", `error: include: "a\tb" has blanks or control characters`},
		{"listen #h:80", `error: listen: can't convert address "#h"`},
		{"listen /a\tb", "error: listen: a listen address with blanks or control characters"},
		{"emergency #h:80", `error: emergency: unknown or invalid address "#h", expected HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]`},
		{"server 0 address #h", `error: server: "#h" begins a comment in a file`},
		{"server 0 address /a\tb", `error: server: "/a\tb" has blanks or control characters`},
		{"server 0 address a/b", `error: server: path "a/b" of a Unix socket is not absolute`},
		{"server 0 max 1 address /" + strings.Repeat("x", maxSocketPath), "error: server: path of a Unix socket longer than 107 bytes"},
		{"source #h", "unable to set source address to '#h'"},
		{"web_stats", ""},
	} {
		if got := strings.TrimSuffix(s.ask(c.ask), "\n"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.ask, got, c.want)
		}
	}
}
