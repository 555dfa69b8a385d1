package config

import (
	"os/exec"
	"strings"
	"testing"

	"pen/state"
)

func TestRowsAreWhole(t *testing.T) {
	for _, w := range Words() {
		switch {
		case w.Help == "" || strings.HasSuffix(w.Help, ".") || strings.Contains(w.Help, "\n"):
			t.Errorf("%s: help %q", w.Name, w.Help)
		case w.Kind == KindReplicated && w.ops == nil:
			t.Errorf("%s: replicated, and changes nothing", w.Name)
		case w.Kind == KindLocal && w.set == nil:
			t.Errorf("%s: local, and sets nothing", w.Name)
		case w.Kind == KindUnavailable && (w.reason == "" || w.check == nil || w.refuse == nil):
			t.Errorf("%s: unavailable, and does not say why", w.Name)
		case Lookup(w.Name).Places&InControl == 0:
			t.Errorf("%s: not for the control port", w.Name)
		case w.Places&InControl != 0 && Lookup(w.Name) != w || w.Places&InFile != 0 && lookup(w.Name, InFile) != w:
			t.Errorf("%s: not found", w.Name)
		}
		for i, a := range w.Args {
			if a.Optional && i < len(w.Args)-1 && !w.Args[i+1].Optional {
				t.Errorf("%s: %s is optional and stands before one that is not", w.Name, a.Name)
			}
			if a.Type == TypeEnum && len(a.Among) == 0 || a.Type == TypeInt && a.Min >= a.Max || a.Name == "" {
				t.Errorf("%s: argument %+v", w.Name, a)
			}
		}
	}
	if Lookup("nonsense") != nil {
		t.Error("nonsense is a word")
	}
}

func TestEveryOptionOfTheStateHasAWord(t *testing.T) {
	for _, o := range state.Options() {
		w := Lookup(o.String())
		if w == nil || w.Kind != KindReplicated || w.PerService == o.Global() {
			t.Errorf("%v: got %+v", o, w)
		}
	}
}

func TestEveryWordOfTheOriginalIsKnown(t *testing.T) {
	const original = `abort_on_error acl ascii blacklist block client_acl clients_max close connection conn_max control control_acl
		debug delayed_forward dsr_if dsr_ip dummy epoll exit hash http idle_timeout idlers include keepalive kqueue listen log mode
		peek pending_max pid poll prio recent roundrobin select server servers socket source ssl_ciphers
		ssl_client_renegotiation_interval ssl_ocsp_response ssl_option ssl_sni_path status stubborn tarpit_acl tcp_fastclose
		tcp_nodelay timeout tracking transparent web_stats weight write`
	names := map[string]bool{}
	for _, name := range strings.Fields(original) {
		names[name] = true
		if w := Lookup(name); w == nil {
			t.Errorf("%s is not known", name)
		} else if w.New {
			t.Errorf("%s is taken for new", name)
		}
	}
	for _, w := range Words() {
		if !names[w.Name] && !w.New {
			t.Errorf("%s is taken for the original's", w.Name)
		}
	}
}

func TestUnhandledNamesWhatIsMissing(t *testing.T) {
	missing := Unhandled(func(name string) bool { return name != "servers" && name != "reload" })
	equal(t, "missing", missing, []string{"reload", "servers"})
	for _, name := range []string{"pid", "mode", "help", "timeout", "debug", "log", "block"} {
		if Lookup(name).NeedsHandler() {
			t.Errorf("%s needs a handler", name)
		}
	}
}

func TestHelp(t *testing.T) {
	golden(t, "help.txt", Help("")+"\n"+Help("hash")+"\n"+Help("control")+"\n"+Help("cluster")+"\n"+Help("peers")+"\n"+Help("http")+"\n"+Help("reload")+"\n"+Usage())
	for _, line := range strings.Split(Help("")+Usage(), "\n") {
		if len(line) > 120 {
			t.Errorf("long line %q", line)
		}
	}
}

func TestManual(t *testing.T) {
	roff, markdown := ManualRoff(), ManualMarkdown()
	for _, w := range Words() {
		if !strings.Contains(roff, `\fB`+w.Name) || !strings.Contains(markdown, "| `"+w.Name) {
			t.Errorf("%s is not in the manual", w.Name)
		}
	}
	for _, o := range letters {
		if o.help != "" && !strings.Contains(OptionsRoff(), `\-`+string(o.letter)+"\n") && !strings.Contains(OptionsRoff(), `\-`+string(o.letter)+` "`) {
			t.Errorf("-%c is not in the manual", o.letter)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		return // the form is all that is left to check
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tascii", "-ww")
	cmd.Stdin = strings.NewReader(".TH PEN 1\n.SH WORDS\n" + roff + ".SH OPTIONS\n" + OptionsRoff())
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, complaints.String())
	}
}
