package daemon

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"pen/internal/config"
	"pen/internal/control"
	"pen/internal/metrics"
	"pen/state"
)

// reserve is how many descriptors are kept back from the traffic, whatever it
// does, so that commands are answered and changes are possible when all
// connections are taken: those of the control port, and one more for each
// command, which may open a file or look up a name; two of each loop; a listener
// for each service, and for some that may come; and what the process has itself.
func reserve(services int) int {
	const itself, more = 16, 16
	return 2*control.MaxPeers + 2*runtime.NumCPU() + services + more + itself
}

// filesFor returns how many descriptors services with these conn_max need. The
// two of each connection are the client's and the server's.
func filesFor(connMax ...int) int {
	need := reserve(len(connMax))
	for _, n := range connMax {
		if n > (math.MaxInt-need)/2 {
			return math.MaxInt
		}
		need += 2 * max(n, 0)
	}
	return need
}

// filesOfMember is how many descriptors a node of a cluster needs beside those:
// for its peers, strangers at its port, the log, the kernel and the guard.
func filesOfMember(l *config.Local) int {
	if !l.Clustered() {
		return 0
	}
	return 256
}

// filesOfMetrics is how many the port for metrics needs: each connection, those
// that are about to be turned away, and the listeners.
func filesOfMetrics(l *config.Local) int {
	if l.Metrics == "" {
		return 0
	}
	return metrics.MaxPeers + 4
}

// files is the limit of open files that is in force for this process.
type files int

// filesOf returns how many descriptors the settings need.
func filesOf(v *state.View) int { return filesFor(connMaxOf(v)...) }

func connMaxOf(v *state.View) []int {
	var connMax []int
	for _, s := range v.Services {
		connMax = append(connMax, s.ConnMax)
	}
	return connMax
}

// check tells whether the settings can be met with so many descriptors. Nobody
// has asked for the default: where it is too much, clients wait until there are
// descriptors, and that is counted.
func (f files) check(v *state.View) error {
	connMax := connMaxOf(v)
	if slices.Max(connMax) <= state.Defaults().ConnMax {
		return nil
	}
	return f.suffice(connMax...)
}

// suffice tells whether services with these conn_max can have all their
// connections at once, and if not, the arithmetic.
func (f files) suffice(connMax ...int) error {
	need := filesFor(connMax...)
	if need <= int(f) {
		return nil
	}
	var sum []string
	for _, n := range connMax {
		sum = append(sum, strconv.Itoa(n))
	}
	return fmt.Errorf("conn_max %s needs %d descriptors (2 for each connection and %d in reserve), but the limit is %d: "+
		`at most %d fit; raise it with "ulimit -n" or LimitNOFILE=`,
		strings.Join(sum, " + "), need, reserve(len(connMax)), f, f.forTraffic(len(connMax))/2)
}

// forTraffic is how many descriptors connections may use.
func (f files) forTraffic(services int) int { return max(int(f)-reserve(services), 0) }
