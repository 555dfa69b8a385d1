//go:build linux

package cluster

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// long is the form that takes its time.
var long = os.Getenv("PEN_E2E") == "long"

// pick is the one value or the other.
func pick[T any](short, whole T) T {
	if long {
		return whole
	}
	return short
}

// clients is how many look on.
const clients = 200

// suite is a cluster under test.
type suite struct {
	*lab.Lab
	*lab.Cluster
	t testing.TB
}

// begin builds a lab with a cluster in it that serves. Without the hash only the
// replicated table can tell where a client belongs.
func begin(t *testing.T, more ...string) *suite {
	t.Helper()
	s := prepare(t, append([]string{"no hash"}, more...)...)
	must(t, s.Start(s.Nodes...))
	s.well(t)
	return s
}

// prepare builds the lab and writes the files.
func prepare(t *testing.T, more ...string) *suite {
	t.Helper()
	return prepareOf(t, lab.Config{}, more...)
}

func prepareOf(t *testing.T, size lab.Config, more ...string) *suite {
	t.Helper()
	rig.NeedRoot(t)
	bin := rig.Bin(t)
	l, err := lab.New(size)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	c, err := l.NewCluster(bin, more...)
	must(t, err)
	s := &suite{l, c, t}
	t.Cleanup(func() {
		if t.Failed() {
			s.confess(t)
		}
	})
	return s
}

// confess shows what the nodes have said, for who has to find out.
func (s *suite) confess(t testing.TB) {
	for _, n := range s.Nodes {
		if p := s.Pen(n); p != nil {
			t.Logf("%s said:\n%s", n.Name, p.Log())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holder is the node that clients are answered through.
func (s *suite) holder(t testing.TB) *lab.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := s.Holder(ctx)
	must(t, err)
	return n
}

// others are all nodes but one.
func (s *suite) others(n *lab.Node) []*lab.Node {
	return slices.DeleteFunc(slices.Clone(s.Nodes), func(o *lab.Node) bool { return o == n })
}

// ask gives a command to a node.
func (s *suite) ask(t testing.TB, n *lab.Node, words ...string) string {
	t.Helper()
	text, err := s.Ask(t.Context(), n, words...)
	must(t, err)
	return strings.TrimSpace(text)
}

// well waits until all nodes say that all of them are there and that the same one
// holds the address, and that is the one that clients are answered through.
func (s *suite) well(t testing.TB) {
	t.Helper()
	holder := ""
	why := "?"
	if !rig.Eventually(30*time.Second, func() bool {
		holder, why = s.agreed(t.Context())
		return why == ""
	}) {
		t.Fatalf("the cluster is not well: %s", why)
	}
	if got := s.holder(t); !strings.HasPrefix(holder, got.Addr.String()) {
		t.Fatalf("clients are answered through %s, and status says that %s holds the address", got.Name, holder)
	}
}

// restart starts what has ended.
func (s *suite) restart(t testing.TB) {
	t.Helper()
	for _, n := range s.Nodes {
		if _, ended := s.Pen(n).Wait(0); ended {
			must(t, s.Start(n))
		}
	}
}
