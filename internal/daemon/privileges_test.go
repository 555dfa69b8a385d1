//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestLookAccount(t *testing.T) {
	root, err := lookAccount("root")
	if err != nil || root.uid != 0 || root.gid != 0 {
		t.Errorf("got %+v, %v", root, err)
	}
	byNumber, err := lookAccount("0")
	if err != nil || byNumber.uid != 0 {
		t.Errorf("got %+v, %v", byNumber, err)
	}
	if a, err := lookAccount("no-such-user"); err == nil || err.Error() != "user no-such-user: no such user" {
		t.Errorf("got %+v, %v", a, err)
	}
}

// TestPrivilegesChild is no test: the others start it as their child. It prints
// what it has become.
func TestPrivilegesChild(t *testing.T) {
	role, dir, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		t.Skip("only as a child of the other tests")
	}
	for range 4 { // threads, to be changed too
		go func() { runtime.LockOSThread(); select {} }()
	}
	a, err := lookAccount(role)
	var was os.FileInfo
	data := os.Getenv("PEN_TEST_DATA")
	if data != "" {
		was, err = os.Stat(data)
	}
	if err == nil && dir != "" {
		err = jail(dir)
	}
	if err == nil {
		err = a.become()
	}
	if err == nil && data != "" {
		err = stillOurs(data, was)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(idsOfThreads(dir != ""))
	if dir != "" {
		here, _ := os.Getwd()
		mark, _ := os.ReadFile("/mark")
		fmt.Printf("in %s sees %s\n", here, mark)
	}
	fmt.Println("back to root:", syscall.Setuid(0))
	root := account{name: "root"}
	fmt.Println("again:", a.become(), "root:", root.become())
	os.Exit(0)
}

// idsOfThreads returns the different ids and groups of all threads; there should
// be one line.
func idsOfThreads(jailed bool) string {
	if jailed { // no /proc
		groups, _ := os.Getgroups()
		return fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups)
	}
	seen := map[string]bool{}
	files, _ := filepath.Glob("/proc/self/task/*/status")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var ids []string
		for line := range strings.Lines(string(b)) {
			if key, value, _ := strings.Cut(line, ":"); key == "Uid" || key == "Gid" || key == "Groups" {
				ids = append(ids, strings.Join(strings.Fields(value), " "))
			}
		}
		seen[strings.Join(ids, " / ")] = true
	}
	var all []string
	for ids := range seen {
		all = append(all, ids)
	}
	return strings.Join(all, "\n")
}

// privileged runs the child and returns its output.
func privileged(t *testing.T, user, dir string) (string, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestPrivilegesChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+user+" "+dir)
	// Groups that must not survive.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{0, 4, 20}}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestBecomeAnotherUser(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks at threads in Linux's /proc")
	}
	nobody, err := lookAccount("nobody")
	if err != nil {
		t.Skip(err)
	}
	out, err := privileged(t, "nobody", "")
	u, g := nobody.uid, nobody.gid
	want := fmt.Sprintf("%d %d %d %d / %d %d %d %d / %d\n", u, u, u, u, g, g, g, g, g) +
		"back to root: operation not permitted\n" +
		"again: <nil> root: run as root: only root can become another user\n"
	if out != want || err != nil {
		t.Errorf("got %v\n%s\nwant\n%s", err, out, want)
	}
}

func TestBecomeRoot(t *testing.T) {
	out, err := privileged(t, "root", "")
	if !strings.Contains(out, "0 0 0 0 / 0 0 0 0 / 0\n") || err != nil {
		t.Errorf("got %v\n%s", err, out)
	}
}

func TestJail(t *testing.T) {
	nobody, err := lookAccount("nobody")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/mark", []byte("the mark"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := privileged(t, "nobody", dir)
	u, g := nobody.uid, nobody.gid
	want := fmt.Sprintf("%d %d %d %d [%d]\nin / sees the mark\n", u, u, g, g, g)
	if !strings.HasPrefix(out, want) || err != nil {
		t.Errorf("got %v\n%s\nwant\n%s", err, out, want)
	}
	if out, err := privileged(t, "nobody", "/nonexistent"); err == nil || !strings.Contains(out, "chroot /nonexistent: ") {
		t.Errorf("no such jail: got %v, %s", err, out)
	}
}

func TestDataDirectoryMustStayReachable(t *testing.T) {
	nobody, err := lookAccount("nobody")
	if err != nil {
		t.Skip(err)
	}
	top := t.TempDir()
	data, other := top+"/var/data", top+"/jail"
	for _, dir := range []string{top + "/var", data, other} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(filepath.Dir(top), 0o755), os.Chmod(top, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PEN_TEST_DATA", data)
	run := func(what, jail, want string) {
		t.Helper()
		out, err := privileged(t, "nobody", jail)
		if (err == nil) != (want == "") || !strings.Contains(out, want) {
			t.Errorf("%s: got %v\n%s\nwant %q in it", what, err, out, want)
		}
	}
	run("somebody else's", "", "can not use "+data+": it must own it")
	if err := os.Chown(data, nobody.uid, nobody.gid); err != nil {
		t.Fatal(err)
	}
	run("ours", "", "")
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	run("outside the jail", other, data+" is not there in the chroot directory")
	if err := os.MkdirAll(other+data, 0o777); err != nil {
		t.Fatal(err)
	}
	run("another one in the jail", other, data+" is not there in the chroot directory")
	if err := os.Chmod(top+"/var", 0o700); err != nil {
		t.Fatal(err)
	}
	run("behind a closed door", "", "can not use "+data+": it must own it")
}
