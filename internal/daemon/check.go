package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"pen/cluster"
	"pen/direct"
	"pen/internal/config"
	"pen/proxy"
	"pen/state"
	"pen/vip"
)

// Check looks at everything that a start with this command line would look at,
// and starts nothing.
func Check(ctx context.Context, line *config.CommandLine) config.Report {
	return checker(lenient).Check(ctx, line)
}

// checker looks at this machine, too. A witness serves nobody, and what that would
// need it need not have.
func checker(judge func([]config.Doubt) []config.Doubt) config.Checker {
	idle := false
	return config.Checker{
		Cluster: func(l *config.Local) []config.Doubt { // before Fits
			idle = witness(&l.Membership)
			return judge(doubts(l))
		},
		TLS: func(s *state.Service) error {
			if idle {
				return nil
			}
			return proxy.CheckTLS(s)
		},
		Transparent: func(s *state.Service) []error {
			if idle {
				return nil
			}
			return opaque(s)
		},
		GeoIP: func(file string) error {
			if idle {
				return nil
			}
			return proxy.CheckGeoIP(file)
		},
		Direct: func(s *state.Service, l *config.Local) []config.Doubt {
			if err := checkDirect(l, s); err != nil && !idle {
				return judge([]config.Doubt{{Word: "dsr_if", Err: err}})
			}
			return nil
		},
		Fits: func(v *state.View) error {
			if idle {
				return nil
			}
			return fits(v)
		},
	}
}

// lenient is for who checks a file, and need not have the privileges of the process
// that will use it.
func lenient(all []config.Doubt) []config.Doubt {
	for i := range all {
		if _, lacks := errors.AsType[*vip.CapabilityError](all[i].Err); lacks || errors.Is(all[i].Err, direct.ErrCapability) {
			all[i].Warning = true
		}
	}
	return all
}

// strict is for the process that starts.
func strict(all []config.Doubt) []config.Doubt { return all }

// doubts tells what on this machine stands in the way of being the node of a
// cluster that the settings describe.
func doubts(l *config.Local) (all []config.Doubt) {
	doubt := func(word string, err error) {
		for _, e := range apart(err) {
			all = append(all, config.Doubt{Word: word, Err: e})
		}
	}
	if l.ClusterKey != "" {
		_, err := cluster.ReadKey(l.ClusterKey)
		doubt("cluster_key", err)
	}
	if l.Notify != "" {
		doubt("notify", checkNotify(l.Notify))
	}
	self, err := selfOf(l)
	if err != nil {
		doubt("peers", err)
		return all
	}
	doubt("self", notHere(l))
	if len(l.VIPs) > 0 && !self.Witness {
		for _, e := range apart(vip.Check(vipConfig(l, slog.New(slog.DiscardHandler)))) {
			all = append(all, config.Doubt{Word: "vip", Index: aboutWhich(l, e), Err: e})
		}
		if err := unasked(l); err != nil {
			all = append(all, config.Doubt{Word: "vip", Err: err, Warning: true})
		}
	}
	return all
}

// unasked tells that a node of two would find nobody to ask whether it is cut off.
func unasked(l *config.Local) error {
	if !l.Fallback() {
		return nil
	}
	err := vip.CheckGateway(vipConfig(l, slog.New(slog.DiscardHandler)), gatewayOf(l))
	if errors.Is(err, vip.ErrNoGateway) {
		return errors.New("gateway auto: no default route on the interface of the address, and so nobody would hold it when the two peers lose each other; say gateway ADDR, a machine of that subnet that is always on")
	}
	return nil // what else is wrong has been told
}

// aboutWhich finds the virtual address that an error names; the first if it names
// none or all.
func aboutWhich(l *config.Local, err error) int {
	words := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == ' ' || r == ',' })
	for _, w := range words {
		w, _, _ = strings.Cut(strings.TrimSuffix(w, ":"), "/")
		ip, bad := netip.ParseAddr(w)
		if i := slices.IndexFunc(l.VIPs, func(v config.VIP) bool { return v.Prefix.Addr() == ip }); bad == nil && i >= 0 {
			return i
		}
	}
	return 0
}

// notHere tells that the address that names this node is another machine's.
func notHere(l *config.Local) error {
	if !l.Self.IsValid() {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err == nil && !slices.ContainsFunc(addrs, func(a net.Addr) bool { return addressOf(a) == l.Self.Addr() }) {
		return fmt.Errorf("self %s: no interface of this machine has this address", l.Self.Addr())
	}
	return err
}

// fits raises the limit of open files as far as the settings need and tells
// whether that is enough.
func fits(v *state.View) error {
	limit, err := raiseFiles(filesOf(v))
	if err != nil {
		return err
	}
	return limit.check(v)
}

// apart takes joined errors apart.
func apart(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, apart(e)...)
	}
	return all
}

// examine logs what is probably not meant in the settings of a start, and
// returns what can not be.
func (d *daemon) examine(plan *config.Plan, statements []config.Statement) error {
	var errs []error
	for _, f := range checker(strict).Examine(plan, statements) {
		if f.Severity == config.SeverityError {
			errs = append(errs, errors.New(f.String()))
		} else {
			d.log.Warn(f.String())
		}
	}
	return errors.Join(errs...)
}

// worse tells what a change would make of settings that can not be: --check and
// a start would refuse them too. What is wrong already does not stand in the way
// of a change.
func worse(now, then *state.View, local config.Local) error {
	known := mistakes(now, local)
	var errs []error
	for _, m := range mistakes(then, local) {
		if !slices.Contains(known, m) {
			errs = append(errs, errors.New(m))
		}
	}
	return errors.Join(errs...)
}

func mistakes(v *state.View, local config.Local) []string {
	var all []string
	for _, f := range (config.Checker{}).Examine(&config.Plan{View: v, Local: local}, nil) {
		if f.Severity == config.SeverityError {
			all = append(all, f.What)
		}
	}
	return all
}
