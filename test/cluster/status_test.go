//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// status is what `cluster json` says, as far as it matters here.
type status struct {
	Quorum  bool     `json:"quorum"`
	Members []member `json:"members"`
	Address struct {
		Lapsed uint64 `json:"lapsed"`
	} `json:"address"`
}

type member struct {
	Name     string `json:"name"`
	Addr     string `json:"addr"`
	Alive    bool   `json:"alive"`
	Eligible bool   `json:"eligible"`
	Why      string `json:"why"`
	Holding  bool   `json:"holding"`
	Fallback bool   `json:"fallback"`
	Drained  bool   `json:"drained"`
	Digest   uint64 `json:"digest"`
}

func (s *suite) status(ctx context.Context, n *lab.Node) (st status, err error) {
	text, err := s.Ask(ctx, n, "cluster", "json")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return st, fmt.Errorf("cluster json on %s: %w in %q", n.Name, err, text)
	}
	return st, nil
}

// lapses counts how often each node was kept from running for so long that its
// kernel lease ran out. Nodes that do not answer are left out.
func (s *suite) lapses(t testing.TB) map[*lab.Node]uint64 {
	t.Helper()
	all := map[*lab.Node]uint64{}
	for _, n := range s.Nodes {
		if st, err := s.status(t.Context(), n); err == nil {
			all[n] = st.Address.Lapsed
		}
	}
	return all
}

// held tells that the machine was busy with something else: it did not run the
// observers, or a node, for a while. Packets of that time are lost, and not by
// the cluster.
func held(r lab.Report, before, after map[*lab.Node]uint64) bool {
	const worth = 10 * time.Millisecond
	if r.Late >= worth {
		return true
	}
	for n, count := range after {
		if count > before[n] {
			return true
		}
	}
	return false
}

// agreed is the address of the holder in the eyes of all nodes, or why there is none.
func (s *suite) agreed(ctx context.Context) (holder, why string) {
	for _, n := range s.Nodes {
		st, err := s.status(ctx, n)
		if err != nil {
			return "", err.Error()
		}
		one, why := st.holder(len(s.Nodes))
		if why != "" {
			return "", fmt.Sprintf("%s: %s: %+v", n.Name, why, st)
		}
		if holder != "" && one != holder {
			return "", fmt.Sprintf("%s says that %s holds the address, another that %s does", n.Name, one, holder)
		}
		holder = one
	}
	return holder, ""
}

// holder is the address of the one that holds, if all members are as they should.
func (st status) holder(members int) (holder, why string) {
	if !st.Quorum || len(st.Members) != members {
		return "", "no quorum, or members are missing"
	}
	for _, m := range st.Members {
		switch {
		case !m.Alive || !m.Eligible:
			return "", m.Addr + " is not alive or not eligible"
		case m.Holding && holder != "":
			return "", holder + " and " + m.Addr + " hold the address"
		case m.Holding:
			holder = m.Addr
		}
	}
	if holder == "" {
		return "", "nobody holds the address"
	}
	return holder, ""
}

// tell checks what the nodes say while the fault lasts.
func (f fault) tell(t testing.TB, s *suite, holder *lab.Node) {
	t.Helper()
	struck := holder
	if f.other {
		struck = s.others(holder)[0]
	}
	for _, n := range s.Nodes {
		if n == struck && (f.struck == gone || f.struck == halved) {
			continue
		}
		why := ""
		if !rig.Eventually(rig.Patience, func() bool {
			st, err := s.status(t.Context(), n)
			if err != nil {
				why = err.Error()
				return false
			}
			why = f.wrong(st, n, struck, holder)
			return why == ""
		}) {
			t.Errorf("status of %s: %s", n.Name, why)
		}
	}
}

// wrong is what the status of a node should not say; empty: it is right.
func (f fault) wrong(st status, n, struck, holder *lab.Node) string {
	if n == struck && f.struck == alone {
		if st.Quorum {
			return fmt.Sprintf("it is alone and speaks of a quorum: %+v", st)
		}
		return ""
	}
	if !st.Quorum {
		return fmt.Sprintf("no quorum: %+v", st)
	}
	holders := 0
	for _, m := range st.Members {
		of := func(n *lab.Node) bool { return strings.HasPrefix(m.Addr, n.Addr.String()+":") }
		switch {
		case of(struck) && (f.struck == gone || f.struck == alone) && (m.Alive || m.Eligible):
			return fmt.Sprintf("%s is away, and %+v", struck.Name, m)
		case of(struck) && f.struck == drained && (!m.Drained || m.Eligible):
			return fmt.Sprintf("%s is drained, and %+v", struck.Name, m)
		case !m.Alive || !m.Holding:
		case of(holder) != f.stays && f.struck != halved:
			return fmt.Sprintf("%s held the address before, and %+v", holder.Name, m)
		default:
			holders++
		}
	}
	if holders != 1 && f.struck != halved {
		return fmt.Sprintf("%d nodes hold the address: %+v", holders, st)
	}
	return ""
}
