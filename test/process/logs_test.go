//go:build linux

package process

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// holds waits until a file has a text.
func holds(t testing.TB, file, text string) string {
	t.Helper()
	var got string
	if !rig.Eventually(rig.Patience, func() bool {
		b, _ := os.ReadFile(file)
		got = string(b)
		return strings.Contains(got, text)
	}) {
		t.Fatalf("%s has no %q:\n%s", file, text, got)
	}
	return got
}

// says has client n send a line.
func (d *daemon) says(n int, line string) {
	d.t.Helper()
	c := d.hold(n)
	defer c.Close()
	if _, err := c.Say(line); err != nil {
		d.t.Fatal(err)
	}
}

// A log is opened by the user that the process becomes, in his jail, written as its
// lines come, and opened again by HUP.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	uid, gid := nobody(t)
	d := place(t)
	d.backend(0)
	jail := filepath.Join(d.dir, "jail")
	if err := os.Mkdir(jail, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(jail, uid, gid); err != nil {
		t.Fatal(err)
	}
	d.start("-u", "nobody", "-j", jail, "-l", "/requests", "--access-log", "/visits", "-C", "{control}", "{listen}", "{a}")
	d.says(2, "GET /one")
	holds(t, filepath.Join(jail, "requests"), " GET /one\n")
	info, err := os.Stat(filepath.Join(jail, "requests"))
	if err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
		t.Errorf("%v, %v", info, err)
	}
	for _, name := range []string{"requests", "visits"} {
		if err := os.Rename(filepath.Join(jail, name), filepath.Join(jail, name+".1")); err != nil {
			t.Fatal(err)
		}
	}
	d.Signal(syscall.SIGHUP)
	rig.Eventually(rig.Patience, func() bool { _, err := os.Stat(filepath.Join(jail, "visits")); return err == nil })
	d.says(3, "GET /two")
	if got := holds(t, filepath.Join(jail, "requests"), "GET /two"); strings.Contains(got, "/one") {
		t.Errorf("got %q", got)
	}
	line := holds(t, filepath.Join(jail, "visits"), "client=127.0.0.3:")
	if !regexp.MustCompile(`^time=\S+Z service=default protocol=tcp client=127\.0\.0\.3:\d+ server=0 backend=` + regexp.QuoteMeta(d.backendAddr(0)) +
		` end=client_closed choice=new failovers=0 connect=\d\.\d{6} first=\d\.\d{6} total=\d\.\d{6} received=\d+ sent=\d+\n`).MatchString(line) {
		t.Errorf("got %q", line)
	}
	holds(t, filepath.Join(jail, "visits.1"), "client=127.0.0.2:")
}

func TestLogsThatCanNotBeOpened(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	contains(t, "start", d.fails(1, "-f", "-l", "{dir}/not/there", "{listen}", "{a}"), "log: open", "no such file")
	contains(t, "start", d.fails(1, "--access-log", "stderr", "{listen}", "{a}"), "access_log stderr", "background")
	contains(t, "start", d.fails(1, "-f", "-l", "{dir}/x", "--access-log", "{dir}/x", "{listen}", "{a}"), "can not share")
	d.start("-f", "-C", "{control}", "-l", "{dir}/log", "{listen}", "{a}")
	contains(t, "reply", d.ask("log "+d.dir+"/not/there"), "error: log: open", "no such file")
	contains(t, "reply", d.ask("access_log "+d.dir), "error: access_log: open", "directory")
	contains(t, "log", d.ask("log"), d.dir+"/log")
	d.says(2, "still here")
	holds(t, filepath.Join(d.dir, "log"), "still here\n")
}

// A pipe that nobody reads and a disk that is full disturb nobody, and are seen.
func TestLogsThatStallHoldUpNobody(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	pipe := filepath.Join(d.dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	d.start("-f", "-C", "{control}", "-l", "/dev/full", "--access-log", pipe, "{listen}", "{a}")
	for range 300 {
		d.fetch(2)
	}
	counted := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(d.ask("counters"))
		if m == nil {
			return ""
		}
		return m[1]
	}
	if !rig.Eventually(rig.Patience, func() bool { return counted("request_log_dropped") == "300" }) {
		t.Errorf("dropped %s", counted("request_log_dropped"))
	}
	if n := strings.Count(d.Stderr(), "log can not be written"); n != 1 {
		t.Errorf("said %d times", n)
	}
	// Who comes to the pipe in the end gets whole lines.
	r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.SetReadDeadline(time.Now().Add(rig.Patience))
	lines := bufio.NewScanner(r)
	for range 300 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "time=") || !strings.Contains(lines.Text(), " sent=") {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
	}
}

func TestNetworkLogOfTheFile(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	c, err := net.ListenPacket("udp", d.block.Addr(3, 9514))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rig.WriteFile(t, d.dir, "conf", "log "+c.LocalAddr().String()+"\naccess_log "+d.dir+"/visits\naccess_log_format json\n")
	d.start("-f", "-F", "{dir}/conf", "-C", "{control}", "{listen}", "{a}")
	d.fetch(2)
	buf := make([]byte, 2048)
	c.SetReadDeadline(time.Now().Add(rig.Patience))
	n, _, err := c.ReadFrom(buf)
	if want := "+ 127.0.0.2 " + d.block.Host(11) + " hi\n"; string(buf[:n]) != want {
		t.Errorf("got %q, %v, want %q", buf[:n], err, want)
	}
	var facts struct{ Client, End string }
	if err := json.Unmarshal([]byte(holds(t, filepath.Join(d.dir, "visits"), "}\n")), &facts); err != nil || facts.End != "client_closed" {
		t.Errorf("%+v, %v", facts, err)
	}
	d.ask("write " + d.dir + "/saved")
	b, _ := os.ReadFile(filepath.Join(d.dir, "saved"))
	contains(t, "saved", string(b), "\nlog "+c.LocalAddr().String()+"\n", "\naccess_log_format json\n")
}

// needLog is for Debian's own programs.
func needLog(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	rig.Need(t, err == nil, name+" (package pen)")
	return path
}

// Web servers send their lines to penlogd, and it puts in the clients that we tell.
func TestPenlogd(t *testing.T) {
	t.Parallel()
	penlogd := needLog(t, "penlogd")
	d := place(t)
	d.backend(0)
	free, err := net.ListenPacket("udp4", ":0") // penlogd takes the port on all addresses
	if err != nil {
		t.Fatal(err)
	}
	port := free.LocalAddr().(*net.UDPAddr).Port
	free.Close()
	out := filepath.Join(d.dir, "merged")
	collector := rig.Start(t, d.dir, penlogd, "-f", "-d", "-d", "-l", out, fmt.Sprint(port))
	at := fmt.Sprintf("127.0.0.1:%d", port)
	d.start("-f", "-C", "{control}", "-l", at, "{listen}", "{a}")
	web, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(d.block.Host(11))}}).Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	rig.Eventually(2*rig.Patience, func() bool {
		b, _ := os.ReadFile(out)
		return len(b) == 0 && strings.Contains(collector.Stdout()+collector.Stderr(), "main loop") || collector.Exited()
	})
	rig.Eventually(2*rig.Patience, func() bool { // it takes the newest that fits, and writes its file when it opens it again
		d.says(7, "GET /x HTTP/1.0")
		fmt.Fprintf(web, "%s - - [01/Mar/2026:10:00:00 +0000] \"GET /x HTTP/1.0\" 200 5\n", d.block.Host(1))
		collector.Signal(syscall.SIGHUP)
		b, _ := os.ReadFile(out)
		return strings.Contains(string(b), "127.0.0.7 - - ")
	})
	if collector.Exited() {
		t.Fatalf("penlogd: %s", collector.Stderr())
	}
	holds(t, out, "127.0.0.7 - - [01/Mar/2026:10:00:00 +0000] \"GET /x HTTP/1.0\" 200 5\n")
}

// mergelogs puts our clients into a web server's log.
func TestMergelogs(t *testing.T) {
	t.Parallel()
	mergelogs := needLog(t, "mergelogs")
	d := place(t)
	d.backend(0)
	d.start("-f", "-C", "{control}", "-l", "{dir}/requests", "{listen}", "{a}")
	d.says(7, "GET /x HTTP/1.0")
	holds(t, filepath.Join(d.dir, "requests"), "GET /x")
	web := fmt.Sprintf("%s - - [%s] \"GET /x HTTP/1.0\" 200 5\n", d.block.Host(1), time.Now().UTC().Format("02/Jan/2006:15:04:05 -0700"))
	rig.WriteFile(t, d.dir, "web", web)
	cmd := exec.Command(mergelogs, "-p", "requests", d.block.Host(11)+":web")
	cmd.Dir = d.dir
	got, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(got), "127.0.0.7 - - [") {
		t.Errorf("got %q, %v", got, err)
	}
}
