//go:build linux

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pen/test/rig"
)

// The control port takes something away, and the file is edited to match, by
// hand or with write: the state of the data directory has done it already.
func TestTheSameChangeByHandAndInTheFile(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	server := strings.Replace(d.backendAddr(0), ":", " port ", 1)
	conf := filepath.Join(d.dir, "conf")
	lines := []string{
		"listen " + d.block.Listen(), "server 0 address " + server, "server 1 address " + server + " max 1",
		"service web", "server 0 address " + server,
	}
	rig.WriteFile(t, d.dir, "conf", strings.Join(lines, "\n")+"\n")
	args := []string{"-F", conf, "--data-dir", filepath.Join(d.dir, "data")}
	again := func() {
		t.Helper()
		d.Signal(syscall.SIGTERM)
		d.ends(0)
		d.start(args...)
	}
	d.start(args...)

	d.ask("no server 1")
	d.ask("server 0 max 7")
	d.ask("write")
	again()
	if got := d.ask("servers"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "max 7") {
		t.Errorf("servers after write and a restart:\n%s", got)
	}

	d.ask("no service web")
	rig.WriteFile(t, d.dir, "conf", strings.Join(lines[:2], "\n")+"\n")
	again()
	if got := d.ask("services"); strings.Contains(got, "web") {
		t.Errorf("services after both have removed one:\n%s", got)
	}
	if got := d.ask("servers"); !strings.Contains(got, "max 0") {
		t.Errorf("what the file took back is still there:\n%s", got)
	}
}

func TestAStartThatFailsTeachesNothing(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	data := filepath.Join(d.dir, "data")
	d.start("--data-dir", data, "{listen}", "{a}")
	d.Signal(syscall.SIGTERM)
	d.ends(0)
	d.fails(1, "--data-dir", data, "-b", "99", "-p", "{dir}/nowhere/pid", "{listen}", "{a}")
	d.start("--data-dir", data, "{listen}", "{a}")
	if got := d.ask("blacklist"); got != "30\n" {
		t.Errorf("blacklist %q, want 30: the start that failed is remembered", got)
	}
}

// What --check and a start refuse is refused at run time too.
func TestChangesThatCanNotBe(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	listen := d.block.Listen()
	conf := rig.WriteFile(t, d.dir, "conf", "blacklist 17\n")
	d.start("-F", conf, "{listen}", "{a}")
	own := "address " + strings.Replace(listen, ":", " port ", 1)
	contains(t, "reply", d.ask("server 0 "+own), "error: ", "own listener")
	rig.WriteFile(t, d.dir, "conf", "blacklist 18\nserver 0 "+own+"\n")
	contains(t, "reply", d.ask("reload"), "error: ", "own listener")
	if got := d.ask("blacklist"); got != "17\n" {
		t.Errorf("blacklist %q, want 17", got)
	}
	d.ask("service b")
	_, port, _ := strings.Cut(listen, ":")
	contains(t, "reply", d.ask("service b listen :::"+port), "error: ", "listens already")
	if got := d.fetch(2); got != "a" {
		t.Errorf("got %q", got)
	}
}

func TestTheReaderOfTheLogMayGo(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rig.Pen(t), append(rig.AsRoot("-f", "-d", "-C", d.control), d.expand([]string{"{listen}", "{a}"})...)...)
	cmd.Dir, cmd.Env, cmd.Stderr = d.dir, rig.Env(), w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	d.answers()
	_ = r.Close()
	for range 3 { // each of them logs
		if got := d.fetch(2); got != "a" {
			t.Errorf("got %q", got)
		}
		d.ask("blacklist")
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestStatusFileThatIsADevice(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	d := place(t)
	d.backend(0)
	null := filepath.Join(d.dir, "null")
	if err := syscall.Mknod(null, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	d.start("-w", null, "{listen}", "{a}")
	contains(t, "status", d.ask("status"), "Pen status page")
	info, err := os.Lstat(null)
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the device has become %v, %v", info.Mode(), err)
	}
}
