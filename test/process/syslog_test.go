//go:build linux

package process

import (
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

// newDev gives a shell a /dev of its own, with a log socket that the test
// holds, and runs the rest of its arguments there.
const newDev = `set -e
mount --make-rprivate /
mkdir "$1/dev"
mount -t tmpfs none "$1/dev"
for f in null zero urandom; do touch "$1/dev/$f"; mount --bind "/dev/$f" "$1/dev/$f"; done
touch "$1/dev/log"
mount --bind "$1/log" "$1/dev/log"
mount --move "$1/dev" /dev
shift
exec "$@"`

// Messages and the lines of the access log go to the system's log, each as one of its own.
func TestSyslogInTheBackground(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	rig.Need(t, exec.Command("unshare", "-m", "true").Run() == nil, "mount namespaces (unshare -m)")
	d := place(t)
	d.backend(0)
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(d.dir, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()

	conf := rig.WriteFile(t, d.dir, "conf", "access_log syslog\n")
	args := append([]string{"-m", "sh", "-c", newDev, "sh", d.dir, rig.Pen(t)},
		d.expand([]string{"-d", "-u", "root", "-C", "{control}", "-p", "{dir}/pid", "-F", conf, "{listen}", "{a}", "{b}"})...)
	starter := rig.Start(t, d.dir, "unshare", args...)
	d.left(starter, filepath.Join(d.dir, "pid"))
	d.Process = nil
	d.answers()
	if got := d.fetch(2); got != "a" { // {b} is refused, which is news
		t.Fatalf("answer %q", got)
	}
	form := regexp.MustCompile(`^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d pen: \S`)
	var all strings.Builder
	buf := make([]byte, 4096)
	told, visited := false, false
	for end := time.Now().Add(rig.Patience); (!told || !visited) && time.Now().Before(end); {
		log.SetReadDeadline(end)
		n, err := log.Read(buf)
		if err != nil {
			break
		}
		line := string(buf[:n])
		all.WriteString(line + "\n")
		if !form.MatchString(line) {
			t.Errorf("not the form of a log message: %q", line)
		}
		access := strings.Contains(line, " pen: time=")
		told = told || !access && (strings.Contains(line, d.backendAddr(1)) || strings.Contains(line, "refused"))
		visited = visited || access && strings.Contains(line, " server=0 ") && strings.Contains(line, " end=") && !strings.Contains(line, "\n")
	}
	if !told || !visited {
		t.Errorf("the server that refused is told of: %v; the visit: %v:\n%s", told, visited, all.String())
	}
}
