//go:build linux

package differential

import (
	"testing"

	"pen/test/rig"
)

// A file that the original wrote is a file for ours, and means the same.
func TestFileOfTheOriginalLoads(t *testing.T) {
	t.Parallel()
	rig.NeedOriginal(t)
	x := newSession(t, &script{}, original)
	for _, step := range []string{
		"start -r {listen} {a}:5:7:3:4 {b}", "> acl 1 permit 10.0.0.0 255.0.0.0", "> acl 1 deny fd00::/8",
		"> acl 2 permit country SE", "> blacklist 44", "> client_acl 1", "> timeout 2", "> tracking 600",
		"> tcp_fastclose down", "> tcp_nodelay", "> weight", "> prio", "> web_stats {dir}/page", "> write {dir}/conf",
	} {
		x.step(step)
	}
	asked := []string{"> servers", "> mode", "> blacklist", "> client_acl", "> timeout", "> tracking", "> web_stats"}
	var want []string
	for _, q := range asked {
		want = append(want, x.step(q))
	}
	x.pen.Kill()

	// The same addresses, so that the file fits.
	if !*self {
		x.bin = rig.Pen(t)
	}
	if out := x.step("start -F {dir}/conf {listen}"); out != "" {
		t.Fatalf("start with the file: %s\n%s\n%s", out, x.pen.Stderr(), x.step("show conf"))
	}
	for i, q := range asked {
		if got := x.step(q); got != want[i] {
			t.Errorf("%s\n got %q\nwant %q", q, got, want[i])
		}
	}
}
