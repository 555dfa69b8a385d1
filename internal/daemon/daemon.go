// Package daemon is the running pen: it builds the parts, introduces them to
// each other, carries out what the control port asks, and takes everything down
// again in reverse.
//
// It promises that nothing is half done: a start either serves, or says why not
// and leaves nothing behind but an empty data directory, and a change either
// holds with all its parts, or the old settings go on.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pen/direct"
	"pen/internal/config"
	"pen/internal/control"
	"pen/internal/metrics"
	"pen/proxy"
	"pen/state"
)

// daemon is one running pen.
type daemon struct {
	log     *slog.Logger
	journal *journal
	syslog  *syslog // nil: the log goes to stderr
	logs    *logs
	files   files
	state   agreement
	clock   *state.Clock // of the state
	member  *member      // nil: a node that stands alone
	proxy   *proxy.Proxy
	direct  *direct.Forwarder
	control *control.Server // nil: no control port
	metrics *metrics.Server // nil: nobody asked for one
	renewal *renewer

	heard <-chan os.Signal // signals; see hearSignals

	supervisor *supervisor // nil: no service manager listens

	line    *config.CommandLine
	version string
	started time.Time

	// end stops the process in good order. It may be called more than once.
	end context.CancelFunc

	// news asks for a look at the state; room for one.
	news chan struct{}

	local atomic.Pointer[config.Local] // never changed, only replaced, under change

	// change is held by one change of settings at a time, from the look at the
	// present state until the data plane has the new one.
	change sync.Mutex

	reading sync.Mutex      // held while the file is read again
	filed   map[string]bool // services that the file named when it was last read; guarded by reading
}

// serve runs the parts until ctx ends or one of them fails, then lets
// connections finish if that was asked for, and stops everything. The log ends
// last.
func (d *daemon) serve(ctx context.Context) error {
	logging, quiet := context.WithCancel(context.WithoutCancel(ctx))
	var last sync.WaitGroup
	last.Go(func() { d.journal.run(logging) })
	defer last.Wait()
	defer quiet()
	// The parts outlive ctx by the time that draining takes.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, parts := errgroup.WithContext(parts)
	if d.member != nil {
		group.Go(func() error { return d.member.run(parts) })
	} else {
		group.Go(func() error { return d.state.Run(parts) })
	}
	group.Go(func() error { return d.proxy.Run(parts) })
	group.Go(func() error { return d.direct.Run(parts) })
	group.Go(func() error { return d.reconcile(parts) })
	group.Go(func() error { d.renewal.run(parts); return nil })
	group.Go(func() error { return d.signals(parts) })
	group.Go(func() error { return d.supervise(parts) })
	if d.control != nil {
		group.Go(func() error { return d.control.Run(parts) })
	}
	if d.metrics != nil {
		group.Go(func() error { return d.metrics.Run(parts) })
	}
	select {
	case <-ctx.Done():
		d.supervisor.enter(phaseStopping, "stopping")
		d.leave(parts)
	case <-parts.Done():
		d.failed(context.Cause(parts))
	}
	stop()
	return group.Wait()
}

// leave ends the service in good order: a holder hands over, one that stands
// alone lets connections finish.
func (d *daemon) leave(ctx context.Context) {
	if d.member != nil {
		d.member.leave(ctx)
		return
	}
	d.drain(ctx)
}

// drain lets connections finish for as long as drain_timeout allows.
func (d *daemon) drain(ctx context.Context) {
	patience := time.Duration(d.state.View().Global.DrainTimeout) * time.Second
	if patience <= 0 {
		return
	}
	d.log.Info("draining", "at_most", patience)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A second signal means: now.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	d.proxy.Drain(ctx)
}

// reconcile brings the data plane up to every new view. Changes of settings are
// brought there by who makes them; this is for what the log brings otherwise,
// such as marks of failed servers.
func (d *daemon) reconcile(ctx context.Context) error {
	for {
		changed := d.state.Watch()
		var forced <-chan struct{}
		if d.member != nil {
			forced = d.member.node.WatchForced()
		}
		d.clock.At(time.Now()) // notices when a command has come
		d.configure()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-forced:
		case <-d.news:
		}
	}
}

// configure brings the data plane up to the present view. A cluster that has no
// settings yet leaves it as it is.
func (d *daemon) configure() {
	if d.member != nil && (!d.member.settled.Load() || !d.serves()) {
		return
	}
	d.change.Lock()
	err := d.configureTraffic(d.state.View())
	d.change.Unlock()
	if d.member != nil {
		d.member.unopened.Store(&err)
	}
	if err != nil {
		d.log.Error("settings are not in force", "err", err)
	}
}

// propose makes a change: listeners first, because that is what can fail, then
// the state, then the data plane, then this process. What was planned on an
// older view is tried on the present one.
func (d *daemon) propose(ctx context.Context, by string, ops []state.Op, local func(*config.Local)) error {
	return d.decide(ctx, by, ops, local, false)
}

// decide is propose, or forces the change where there is nobody to agree with.
func (d *daemon) decide(ctx context.Context, by string, ops []state.Op, local func(*config.Local), force bool) error {
	d.change.Lock()
	defer d.change.Unlock()
	now := *d.local.Load()
	local(&now)
	opened, err := d.logs.prepare(ctx, &now)
	if err != nil {
		return err
	}
	defer opened.discard()
	agree := d.state.Propose
	if d.member != nil && len(ops) > 0 {
		if err := d.member.changeable(force); err != nil {
			return err
		}
		if force {
			agree = d.member.force
		}
	}
	// What was seen of a server can not be agreed on without a quorum.
	if slices.ContainsFunc(ops, marks) && d.serves() && !force {
		// What this node has seen of the server until now comes before the
		// operator's word about it, and not after.
		if err := d.proxy.Settle(ctx); err != nil {
			return err
		}
		if err := d.configureTraffic(d.state.View()); err != nil {
			return err
		}
	}
	if len(ops) > 0 {
		c := state.Command{Time: d.clock.At(time.Now()), By: d.signed(by), Ops: d.stamped(ops)}
		before := d.state.View()
		c, err := d.leveled(c)
		if err != nil {
			return err
		}
		view, err := before.With(c)
		if err != nil {
			return err
		}
		if err := worse(before, view, *d.local.Load()); err != nil {
			return err
		}
		if d.serves() {
			if err := errors.Join(d.files.check(view), d.directable(before, view)); err != nil {
				return err
			}
			if err := d.proxy.Prepare(view); err != nil {
				return err
			}
		}
		res, err := agree(ctx, c)
		if err = errors.Join(err, res.Err); err != nil {
			if d.serves() {
				_ = d.proxy.Prepare(before) // closes what was opened for the change
			}
			return err
		}
		if d.serves() {
			if err := d.configureTraffic(d.state.View()); err != nil {
				return err
			}
		}
	}
	opened.use()
	d.adopt(now)
	return nil
}

// serves tells whether this node has listeners. A witness has none, and needs
// nothing that they would.
func (d *daemon) serves() bool { return d.member == nil || !d.member.self.Witness }

// Why nothing can be changed yet.
var (
	errUnformed  = errors.New("the cluster has no settings yet: not enough of its nodes have found each other; see the word cluster")
	errUnsettled = errors.New("this node has not heard from a leader yet, so it does not know the settings; see the word cluster")
)

// stamped says what time it is here, where the state remembers that.
func (d *daemon) stamped(ops []state.Op) []state.Op {
	if d.state.View().Level() < 2 {
		return ops
	}
	return append(slices.Clip(ops), state.Stamp{Wall: state.At(time.Now())})
}

// signed names the node in the name of who asked for a change.
func (d *daemon) signed(by string) string {
	if d.member == nil {
		return by
	}
	return by + " at " + d.member.self.Addr.Addr().String()
}

// marks tells whether an operation sets the mark of a server.
func marks(op state.Op) bool {
	s, ok := op.(state.SetServer)
	return ok && s.Fields&state.FieldMark != 0
}

// adopt makes l the settings of this process. The caller holds change.
func (d *daemon) adopt(l config.Local) {
	d.local.Store(&l)
	d.journal.debug(l.Debug)
	trace(l.AbortOnError)
	if d.proxy != nil {
		d.proxy.Dump(dumpOf(&l))
	}
}

// carryOut makes one statement come true. The error is a *config.Refused where
// the original has an answer for it.
func (d *daemon) carryOut(ctx context.Context, by string, s *config.Statement, force bool) error {
	ops, err := config.Planner{View: d.state.View(), Local: *d.local.Load(), Now: d.clock.At(time.Now()).Time()}.Ops(ctx, s)
	if err != nil {
		return err
	}
	return d.decide(ctx, by, ops, s.Set, force)
}

// reload reads the file again and takes it over whole, or changes nothing. The note
// is for who asked.
func (d *daemon) reload(ctx context.Context, by string) (note string, err error) {
	file := d.local.Load().File
	if file == "" {
		return "", errors.New("there is no file to read again: start with -F FILE")
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	statements, err := config.ParseFile(file)
	if err != nil {
		return "", err
	}
	if d.member != nil {
		return d.member.reload(ctx, by, file, statements)
	}
	view, named := d.state.View(), servicesOf(statements)
	ops := d.vanished(view, named)
	if view, err = view.With(state.Command{Ops: ops}); err != nil {
		return "", err
	}
	plan, err := config.Planner{View: view, Local: *d.local.Load(), Now: d.clock.At(time.Now()).Time(), Rebuild: true}.Plan(ctx, statements)
	if err != nil {
		return "", err
	}
	seed, err := d.reseed(ctx, statements)
	if err != nil {
		return "", err
	}
	if err := d.certificates(plan.View); err != nil {
		return "", err
	}
	ops = append(append(ops, plan.Ops...), seed...)
	if err := d.propose(ctx, by, ops, setAll(statements)); err != nil {
		return "", err
	}
	if err := d.proxy.ReloadTLS(); err != nil {
		return "", err
	}
	d.filed = named
	d.log.Info("settings read again", "file", file, "by", by)
	return "", nil
}

// reseed is the operation that remembers what a start would now find in the
// file, so that the next start can tell what has been changed since.
func (d *daemon) reseed(ctx context.Context, file []config.Statement) ([]state.Op, error) {
	if d.local.Load().DataDir == "" {
		return nil, nil
	}
	plan, err := d.wanted(ctx, file)
	if err != nil {
		return nil, err
	}
	op, err := seedOf(plan.View)
	return []state.Op{op}, err
}

// vanished are the operations that remove services which an earlier reading of
// the file named and the present one does not.
func (d *daemon) vanished(v *state.View, named map[string]bool) []state.Op {
	var ops []state.Op
	for _, s := range v.Services {
		if d.filed[s.Name] && !named[s.Name] && s.Name != state.DefaultService {
			ops = append(ops, state.RemoveService{Service: s.Name})
		}
	}
	return ops
}

// include takes over the statements of one more file, whole or not at all.
func (d *daemon) include(ctx context.Context, by, file string) error {
	statements, err := config.ParseFile(file)
	if err != nil {
		return err
	}
	plan, err := config.Planner{View: d.state.View(), Local: *d.local.Load(), Now: d.clock.At(time.Now()).Time(), Running: true}.Plan(ctx, statements)
	if err != nil {
		return err
	}
	return d.propose(ctx, by, plan.Ops, setAll(statements))
}

// setAll carries out the settings of this process among the statements. Those
// that matter only at start are left for the next one.
func setAll(statements []config.Statement) func(*config.Local) {
	return func(l *config.Local) {
		for i := range statements {
			if !statements[i].Word.Start {
				statements[i].Set(l)
			}
		}
	}
}

func servicesOf(statements []config.Statement) map[string]bool {
	names := map[string]bool{}
	for i := range statements {
		names[statements[i].Service] = true
	}
	return names
}

// permits is the control port's access list. While the list has no entries,
// which permits everybody, the control port is for this machine alone: it may
// have been emptied to be filled anew.
func (d *daemon) permits(a netip.Addr) bool {
	v := d.state.View()
	if !restricted(v) {
		return a.IsLoopback()
	}
	return v.Permits(v.Global.ControlACL, a, d.proxy.Country)
}

// restricted tells whether control_acl keeps anybody out. A list that is not there,
// by name, keeps everybody out.
func restricted(v *state.View) bool {
	list := v.List(v.Global.ControlACL)
	return list == nil || len(list.Entries) > 0
}
