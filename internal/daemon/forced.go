package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pen/cluster"
	"pen/internal/config"
	"pen/state"
)

// Why a change is refused.
var (
	errFallback = errors.New("no quorum (fallback): nothing was changed; settings change when the other node is back, or with a witness on a third machine; " +
		"cluster force COMMAND changes them here now, and there when it is back")
	errNoForce = errors.New("only what the control port sets for the whole cluster can be forced, such as: cluster force server 0 max 100")
	errQuorum  = errors.New("there is a quorum: ask without force")
	errNotHere = errors.New("no quorum, and this node does not hold the address: a change can be forced only on the one that is HOLDER(fallback)")
)

// forcedCommand takes `cluster force` away from a command. Without one after it
// the line stays what it is.
func forcedCommand(line string) (command string, force bool) {
	rest, ok := line, true
	for _, word := range []string{"cluster", "force"} {
		var first string
		first, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
		ok = ok && first == word
	}
	if rest = strings.TrimLeft(rest, " "); !ok || strings.TrimRight(rest, " \r\n\x00") == "" {
		return line, false
	}
	return rest, true
}

// forceable tells why a command can not be forced at all.
func (d *daemon) forceable(q question) error {
	switch {
	case d.member == nil:
		return errAlone
	case q.Word.Kind != config.KindReplicated:
		return errNoForce
	}
	return d.member.changeable(true)
}

// changeable tells why the settings can not be changed on this node now.
func (m *member) changeable(force bool) error {
	alone := false
	if m.fall != nil {
		alone, _, _ = m.fall.standing()
	}
	switch {
	case !m.settled.Load():
		return m.unsettled()
	case force && !alone && m.node.Status().Quorum:
		return errQuorum
	case force && !alone:
		return errNotHere
	case force:
		return nil
	case alone:
		return errFallback
	}
	if n := m.node.Forced(); n > 0 && m.node.Status().Quorum {
		return fmt.Errorf("nothing was changed: %d forced changes come first; try again in a moment", n)
	}
	return nil
}

// force makes a change with nobody to agree.
func (m *member) force(_ context.Context, c state.Command) (state.Result, error) {
	err := m.node.Force(c)
	if errors.Is(err, cluster.ErrNotAlone) {
		err = errQuorum // it has come just now
	}
	return state.Result{}, err
}
