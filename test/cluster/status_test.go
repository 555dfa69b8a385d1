//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"pen/test/lab"
)

// status is what `cluster json` says, as far as it matters here.
type status struct {
	Holder  string
	Quorum  bool
	Members []struct {
		Name, Addr, State string
		Eligible          bool
		SameFile          bool
	}
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

// agreed is the holder in the eyes of all nodes, or why there is none.
func (s *suite) agreed(ctx context.Context) (holder, why string) {
	for _, n := range s.Nodes {
		st, err := s.status(ctx, n)
		switch {
		case err != nil:
			return "", err.Error()
		case !st.Quorum || st.Holder == "":
			return "", fmt.Sprintf("%s sees no holder or no quorum: %+v", n.Name, st)
		case holder != "" && st.Holder != holder:
			return "", fmt.Sprintf("%s says that %s holds the address, another that %s does", n.Name, st.Holder, holder)
		case len(st.Members) != len(s.Nodes):
			return "", fmt.Sprintf("%s sees %d members: %+v", n.Name, len(st.Members), st)
		}
		for _, m := range st.Members {
			if m.State != "alive" || !m.Eligible {
				return "", fmt.Sprintf("%s sees %+v", n.Name, m)
			}
		}
		holder = st.Holder
	}
	return holder, ""
}
