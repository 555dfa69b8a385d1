package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"pen/cluster"
	"pen/direct"
	"pen/internal/config"
	"pen/internal/control"
	"pen/proxy"
	"pen/state"
)

// Config is what Run needs.
type Config struct {
	Line    *config.CommandLine
	Version string
	Stdout  io.Writer // replies of -O and of the file
	Stderr  io.Writer // the log in the foreground

	// Stay serves in this process whatever the command line says of the foreground:
	// who has started it watches it.
	Stay bool
	// Serving is called when all is open, once; nil: nobody waits for it.
	Serving func()
}

// Run does what the command line asks until ctx, a signal or the control port
// ends it. Without -f it starts the background process instead, and returns
// when that one serves. An error of the start has left nothing behind but an
// empty data directory; in the background it is reported by the process that the
// operator started.
func Run(ctx context.Context, c Config) error {
	starter, err := newStarter()
	if err != nil {
		return err
	}
	file := readStart(c.Line.Local.File)
	if !starter.waited() {
		foreground, listening := preview(c.Line, file)
		foreground = foreground || c.Stay
		switch {
		case !listening:
			return ErrNothingToDo
		case !foreground && file.Stream:
			return errStreamBehind
		case !foreground:
			return background(ctx)
		}
	}
	if err := run(ctx, c, file, starter); err != nil {
		if !starter.waited() {
			return err
		}
		starter.fail(err)
		return ErrReported
	}
	return nil
}

// The errors that Run's caller treats apart.
var (
	// ErrReported ends a background process whose parent tells the operator why.
	ErrReported = errors.New("the start failed, as reported")
	// ErrNothingToDo is what an empty command line gets.
	ErrNothingToDo = errors.New("no address to listen on: name one, or a file with -F")

	// The background process would find the stream empty.
	errStreamBehind = errors.New("settings from a pipe are read only once: use -f, or name a file with -F")
)

// startFile is the configuration file as the start has read it, once: a pipe can
// not be read again.
type startFile struct {
	config.StartFile
	err error
}

func readStart(name string) startFile {
	if name == "" {
		return startFile{}
	}
	file, err := config.ParseStart(name)
	return startFile{file, err}
}

// preview tells where to run, and whether there is anything to do, before
// anything is checked: mistakes are for the process that serves to find, once.
func preview(line *config.CommandLine, file startFile) (foreground, listening bool) {
	listening = file.err != nil // who knows; that process will say
	var local config.Local
	for _, s := range line.With(file.Statements) {
		s.Set(&local)
		listening = listening || s.Word.Name == "listen" && len(s.Args) > 0
	}
	return local.Foreground, listening
}

func run(ctx context.Context, c Config, file startFile, starter *starter) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	heard, deaf := hearSignals()
	defer deaf()
	d := &daemon{heard: heard, end: end, line: c.Line, version: c.Version, started: time.Now(), journal: newJournal(c.Stderr, 0), news: make(chan struct{}, 1)}
	d.log = d.journal.log
	d.supervisor = newSupervisor(d.log)
	d.logs = newLogs(d.log, c.Stderr, d.ownFile)
	plan, err := d.firstPlan(ctx, c, file)
	if err != nil {
		return err
	}
	d.adopt(plan.Local)
	return d.open(ctx, plan, starter, c.Serving)
}

// firstPlan works out the settings that command line and file ask for. Replies
// go to standard output, where the original sends them.
func (d *daemon) firstPlan(ctx context.Context, c Config, start startFile) (*config.Plan, error) {
	for _, notice := range c.Line.Notices {
		fmt.Fprintln(c.Stderr, notice)
	}
	file, err := d.firstFile(start)
	if err != nil {
		return nil, err
	}
	statements := c.Line.With(file)
	plan, err := d.wanted(ctx, file)
	if err != nil {
		return nil, err
	}
	if err := d.examine(plan, statements); err != nil {
		return nil, err
	}
	_, err = io.WriteString(c.Stdout, plan.Replies)
	return plan, err
}

// firstFile takes what the start has read. As with the original a file that is
// not there yet is no reason to stay away: `write` can make it.
func (d *daemon) firstFile(file startFile) ([]config.Statement, error) {
	if file.Missing {
		d.log.Warn("no configuration file", "err", file.err)
		return nil, nil
	}
	d.filed = servicesOf(file.Statements)
	return file.Statements, file.err
}

// open opens everything in the order of the original's start, serves, and takes
// everything down in reverse.
func (d *daemon) open(ctx context.Context, plan *config.Plan, starter *starter, serving func()) (err error) {
	local := d.local.Load()
	who, err := d.account(local.User)
	if err != nil {
		return err
	}
	need := filesOf(plan.View)
	if witness(&local.Membership) {
		need = filesFor()
	}
	beside := filesOfMember(local) + filesOfMetrics(local)
	if d.files, err = raiseFiles(need + beside); err != nil {
		return err
	}
	d.files -= files(beside)
	if local.Clustered() {
		err = d.openMember(plan)
		d.logs.format.node = nodeName()
	} else {
		d.state, err = cluster.OpenSolo(local.DataDir, d.log)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.state.Close()) }()
	d.clock = state.NewClock(func() state.Time { return d.state.View().Time })
	d.renewal = d.renewer()
	seed, err := d.seed(plan.View, "start")
	if err != nil {
		return err
	}
	d.proxy = proxy.New(d.traffic(plan))
	d.direct = direct.New(direct.Options{Log: d.log, Allowed: d.passing})
	d.logs.follow(d.proxy.Watch)
	d.proxy.Dump(dumpOf(local))
	defer d.closePorts()
	if err := d.openPorts(ctx, seed, local, who); err != nil {
		return err
	}
	if starter.waited() {
		d.syslog = newSyslog(dialSyslog) // before the jail, which has no /dev/log
	}
	defer d.logs.close()
	if err := d.openLogs(ctx, d.logs.outside(local)); err != nil {
		return err
	}
	if err := d.confine(local, who, plan.View); err != nil {
		return err
	}
	if err := d.openLogs(ctx, local); err != nil {
		return err
	}
	pid, err := writePID(local.PidFile)
	if err != nil {
		return err
	}
	defer pid.remove()
	if err := d.begin(ctx, seed); err != nil {
		return err
	}
	if err := d.detach(starter); err != nil {
		return err
	}
	if serving != nil {
		serving()
	}
	return d.serve(ctx)
}

// begin brings the settings of this start into the state, now that nothing that
// can go wrong is left, but for the disk. In a cluster that is for later: the
// others may have settings already.
func (d *daemon) begin(ctx context.Context, seed state.Command) error {
	if d.member != nil {
		return nil
	}
	seed, err := d.leveled(seed)
	if err != nil {
		return err
	}
	if len(seed.Ops) > 0 {
		res, err := d.state.Propose(ctx, seed)
		if err = errors.Join(err, res.Err); err != nil {
			return err
		}
	}
	return d.configureTraffic(d.state.View())
}

// openLogs opens the logs of clients that the settings name, as far as they are not
// open.
func (d *daemon) openLogs(ctx context.Context, local *config.Local) error {
	opened, err := d.logs.prepare(ctx, local)
	if err != nil {
		return err
	}
	opened.use()
	return nil
}

// openMember makes this a node of a cluster.
func (d *daemon) openMember(plan *config.Plan) error {
	m, err := d.join(plan)
	if err != nil {
		return err
	}
	d.member, d.state = m, m.node
	return nil
}

// traffic are the data plane's options.
func (d *daemon) traffic(plan *config.Plan) proxy.Options {
	local := d.local.Load()
	return proxy.Options{
		Log: d.log, Propose: d.learned, Clock: d.clock, Files: d.files.forTraffic(len(plan.View.Services)),
		Virtual: virtual(local), Standby: len(local.VIPs) > 0,
	}
}

// openPorts opens the control port and that for metrics, then the listeners, as
// they will be with the seed. They accept nobody yet.
func (d *daemon) openPorts(ctx context.Context, seed state.Command, local *config.Local, who *account) error {
	view, err := d.state.View().With(seed)
	if err != nil {
		return err
	}
	if err := d.openControl(ctx, view, local.Control, who); err != nil {
		return err
	}
	if err := d.openMetrics(ctx, view, local.Metrics); err != nil {
		return err
	}
	if !d.serves() {
		return nil
	}
	return d.proxy.Prepare(view)
}

// closePorts closes what openPorts opened, also if it was never served.
func (d *daemon) closePorts() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	d.proxy.Drain(ended)
	if d.control != nil {
		_ = d.control.Close()
	}
	if d.metrics != nil {
		_ = d.metrics.Close()
	}
}

// account looks up the user that -u asks for; nil stands for none.
func (d *daemon) account(name string) (*account, error) {
	if name == "" {
		return nil, nil
	}
	a, err := lookAccount(name)
	return &a, err
}

// confine hands the state and the listeners over, shuts the process into the jail and makes it the
// user that it shall be, for good, with no more privileges than v needs.
func (d *daemon) confine(local *config.Local, who *account, v *state.View) error {
	if who != nil {
		if err := errors.Join(d.state.Chown(who.uid, who.gid), d.proxy.Chown(who.uid, who.gid)); err != nil {
			return err
		}
	}
	reachable := func() error { return nil }
	if d.member != nil {
		var err error
		if reachable, err = d.member.foresee(local); err != nil {
			return err
		}
	}
	if local.Chroot != "" {
		if err := jail(local.Chroot); err != nil {
			return err
		}
	}
	if who != nil {
		if err := who.become(needed(local, v)...); err != nil {
			return err
		}
	}
	return reachable()
}

// detach lets the process that waits for this one go. From then on the log is
// the system's.
func (d *daemon) detach(s *starter) error {
	if !s.waited() {
		return nil
	}
	d.journal.toSyslog(d.syslog)
	return s.ready()
}

// openControl opens the control port, if one is asked for. Its socket will
// belong to the user that the process becomes.
func (d *daemon) openControl(ctx context.Context, v *state.View, text string, who *account) (err error) {
	if text == "" {
		return nil
	}
	if os.Geteuid() == 0 && who == nil {
		// As the original: the service goes on without.
		d.log.Warn(errRootControl.Error())
		return nil
	}
	d.control, err = control.Listen(ctx, text, control.Options{
		Handler:    d.answer,
		Allow:      d.permits,
		Restricted: restricted(v),
		Log:        d.log,
	})
	if err == nil && who != nil {
		err = d.control.Chown(who.uid, who.gid)
	}
	return err
}
