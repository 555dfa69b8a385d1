//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pen/test/rig"
)

// TestScripts runs the scripts of testdata/script, one behaviour of the manual
// each. They know $LISTEN and $CONTROL, where a pen may listen, the servers $A
// and $B, which answer with their name, and $NOWHERE, where nobody answers.
// "serve ARGS" starts a pen in the foreground with a control port, "fetch 2 a"
// wants the client 127.0.0.2 to get the server a.
func TestScripts(t *testing.T) {
	t.Parallel()
	bin := rig.Bin(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			d := place(scriptT{t, env})
			env.Setenv("LISTEN", d.block.Listen())
			env.Setenv("CONTROL", d.control)
			env.Setenv("NOWHERE", d.block.Addr(99, 9099))
			for i, name := range []string{"A", "B"} {
				env.Setenv(name, d.backendAddr(i))
				d.t = scriptT{t, env}
				d.backend(i)
			}
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("LC_ALL", "C")
			env.Setenv("TZ", "UTC")
			env.Values[placeKey{}] = d
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": scriptServe, "fetch": scriptFetch, "stop": scriptStop, "log": scriptLog,
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

// placeKey finds the script's pen among the values of its environment.
type placeKey struct{}

// scriptT ends what a script has started when the script ends.
type scriptT struct {
	testing.TB
	env *testscript.Env
}

func (t scriptT) Cleanup(f func()) { t.env.Defer(f) }
func (t scriptT) Helper()          {}

func scriptPen(ts *testscript.TestScript) *daemon { return ts.Value(placeKey{}).(*daemon) }

func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	d := scriptPen(ts)
	cmd := exec.Command(filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "pen"),
		append(rig.AsRoot("-f", "-C", d.control), args...)...)
	d.Process = rig.StartCmd(d.t, ts.MkAbs("."), cmd)
	up := rig.Eventually(rig.Patience, func() bool {
		_, err := rig.Ask(d.control, "pid")
		return err == nil || d.Exited()
	})
	if d.Exited() || !up {
		ts.Fatalf("pen does not serve: %s", d.Stderr())
	}
	if neg {
		ts.Fatalf("pen serves")
	}
}

// scriptStop sends TERM and wants the end.
func scriptStop(ts *testscript.TestScript, _ bool, _ []string) {
	d := scriptPen(ts)
	d.Cmd.Process.Signal(os.Interrupt)
	if status, ended := d.Wait(rig.Patience); !ended || status != 0 {
		ts.Fatalf("status %d, ended %t", status, ended)
	}
}

// scriptLog wants a text in the log.
func scriptLog(ts *testscript.TestScript, neg bool, args []string) {
	d := scriptPen(ts)
	text := strings.Join(args, " ")
	found := rig.Eventually(time.Second, func() bool { return strings.Contains(d.Stderr(), text) })
	if found == neg {
		ts.Fatalf("%q in the log: %t\n%s", text, found, d.Stderr())
	}
}

func scriptFetch(ts *testscript.TestScript, neg bool, args []string) {
	d := scriptPen(ts)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := ""
	if len(args) > 2 { // another address
		got, err = rig.Fetch(client(n), args[2])
	} else {
		got, err = rig.Fetch(client(n), d.block.Listen())
	}
	if err != nil {
		got = fmt.Sprint(err)
	}
	if (got == args[1]) == neg {
		ts.Fatalf("client %d gets %s", n, got)
	}
}
