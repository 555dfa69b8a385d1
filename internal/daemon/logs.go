package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"pen/internal/config"
	"pen/internal/spool"
	"pen/proxy"
)

// logs are what this node writes down of clients: the request log of the original,
// and the access log. Nobody who serves clients waits for either.
type logs struct {
	log    *slog.Logger
	stderr io.Writer
	refuse func(file string) error // why a file may not be a log
	watch  func(proxy.Watch)       // nil: nothing is told yet
	format visitFormat

	request, access ledger

	mu      sync.Mutex // held by one change at a time
	running sync.WaitGroup
}

// ledger is one of the two logs.
type ledger struct {
	name   string // its word
	now    atomic.Pointer[spool.Spool]
	counts spool.Counts

	// Guarded by logs.mu.
	target string         // as the word said
	last   []*spool.Spool // that may not be done yet
}

const (
	openTime  = 2 * time.Second // for a file, which may be on a disk that does not answer
	flushTime = time.Second     // at the end, and for what a log that is left has taken
	hangMost  = 4               // logs of before that may hang in a write
)

func newLogs(log *slog.Logger, stderr io.Writer, refuse func(string) error) *logs {
	l := &logs{log: log, stderr: stderr, refuse: refuse}
	l.request.name, l.access.name = "log", "access_log"
	return l
}

// opening is a change of the logs that has been prepared.
type opening struct {
	of    *logs
	json  bool // as the lines of the access log will look
	fresh []freshTarget
}

// freshTarget is where a log will go.
type freshTarget struct {
	*ledger
	target string
	to     spool.Target // nil: nowhere
}

// prepare opens what the settings name and the logs do not have yet. Nothing is
// written there before use; discard undoes it.
func (l *logs) prepare(ctx context.Context, want *config.Local) (*opening, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &opening{of: l, json: want.AccessJSON}
	for _, t := range []freshTarget{{ledger: &l.request, target: want.Log}, {ledger: &l.access, target: want.AccessLog}} {
		if t.target == t.ledger.target {
			continue
		}
		if err := l.reach(ctx, &t); err != nil {
			o.discard()
			return nil, err
		}
		o.fresh = append(o.fresh, t)
	}
	return o, nil
}

// hanging forgets the spools that are done and counts the others that should be.
func (g *ledger) hanging() int {
	var left []*spool.Spool
	n := 0
	for _, s := range g.last {
		select {
		case <-s.Done():
			continue
		default:
		}
		left = append(left, s)
		if s != g.now.Load() {
			n++
		}
	}
	g.last = left
	return n
}

// kind is what sort of target a log has.
type kind uint8

const (
	noLog kind = iota
	logFile
	logHost
	logStderr
	logSyslog
)

func (l *logs) kind(g *ledger, target string) kind {
	switch {
	case target == "":
		return noLog
	case g == &l.request && config.NetworkLog(target):
		return logHost
	case g == &l.access && target == config.LogToStderr:
		return logStderr
	case g == &l.access && target == config.LogToSyslog:
		return logSyslog
	}
	return logFile
}

// reach opens a target. The caller holds mu.
func (l *logs) reach(ctx context.Context, t *freshTarget) (err error) {
	switch l.kind(t.ledger, t.target) {
	case noLog:
		return nil
	case logHost:
		t.to, err = dialLog(ctx, t.target)
	case logStderr:
		t.to = spool.Stream(l.stderr)
	case logSyslog:
		t.to, err = openSyslogTarget()
	default:
		if err = l.refuse(t.target); err != nil {
			break
		}
		if t.hanging() >= hangMost {
			err = fmt.Errorf("%d files of before hang in a write", hangMost)
			break
		}
		t.to, err = openLogFile(t.target)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}

// dialLog finds the host of a network log, once; HUP looks again.
func dialLog(ctx context.Context, target string) (spool.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, fmt.Errorf("%w: expected a file name or HOST:PORT", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", target)
	if err != nil {
		return nil, err
	}
	return spool.Datagrams(conn), nil
}

// openLogFile does not wait for a disk that does not answer.
func openLogFile(name string) (spool.Target, error) {
	type opened struct {
		to  spool.Target
		err error
	}
	came := make(chan opened)
	late := make(chan struct{})
	go func() {
		to, err := spool.OpenFile(name)
		select {
		case came <- opened{to, err}:
		case <-late:
			if err == nil {
				_ = to.Close() // nothing was written
			}
		}
	}()
	select {
	case o := <-came:
		return o.to, o.err
	case <-time.After(openTime):
		close(late)
		return nil, fmt.Errorf("open %s: no answer within %v", name, openTime)
	}
}

// discard closes what was opened.
func (o *opening) discard() {
	for _, t := range o.fresh {
		if t.to != nil {
			_ = t.to.Close() // nothing was written
		}
	}
	o.fresh = nil
}

// use makes the change. What the logs have taken until now goes where they went.
func (o *opening) use() {
	l := o.of
	l.mu.Lock()
	defer l.mu.Unlock()
	l.format.json.Store(o.json)
	for _, t := range o.fresh {
		l.turn(t)
	}
	o.fresh = nil
	l.tell()
}

// turn makes a log go elsewhere from now on. The caller holds mu.
func (l *logs) turn(t freshTarget) {
	g, before := t.ledger, t.now.Load()
	g.target = t.target
	var next *spool.Spool
	if t.to != nil {
		next = spool.New(t.to, &g.counts, l.trouble(g.name, t.target))
		g.last = append(g.last, next)
		l.running.Go(func() { next.Run(before, flushTime) })
	}
	g.now.Store(next)
	if before != nil {
		before.Close(time.Now().Add(flushTime))
	}
}

// trouble says when a log can not be written, and when it can again.
func (l *logs) trouble(name, target string) func(error) {
	return func(err error) {
		if err != nil {
			l.log.Warn("log can not be written: lines are lost, see counters", "log", name, "target", target, "err", err)
			return
		}
		l.log.Info("log is written again", "log", name, "target", target)
	}
}

// tell has the data plane say what the logs want to know. The caller holds mu.
func (l *logs) tell() {
	if l.watch == nil {
		return
	}
	var w proxy.Watch
	if l.request.target != "" {
		w.Request = l.putRequest
		if config.NetworkLog(l.request.target) {
			w.Request = l.putDatagram
		}
	}
	if l.access.target != "" {
		w.Visit = l.putVisit
	}
	l.watch(w)
}

// follow begins to write down what the data plane tells.
func (l *logs) follow(watch func(proxy.Watch)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = watch
	l.tell()
}

// reopen opens files again, for who has renamed them, and looks for the host of a
// network log again. What can not be opened stays as it is.
func (l *logs) reopen(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, g := range []*ledger{&l.request, &l.access} {
		if k := l.kind(g, g.target); k != logFile && k != logHost {
			continue
		}
		t := freshTarget{ledger: g, target: g.target}
		if err := l.reach(ctx, &t); err != nil {
			errs = append(errs, err)
			continue
		}
		l.turn(t)
	}
	return errors.Join(errs...)
}

// outside is what of the logs is not in the file system. It is opened before the
// process goes into its jail and becomes another user, the files after that, because
// they are opened again later.
func (l *logs) outside(local *config.Local) *config.Local {
	var first config.Local
	if l.kind(&l.request, local.Log) == logHost {
		first.Log = local.Log
	}
	if l.kind(&l.access, local.AccessLog) != logFile {
		first.AccessLog = local.AccessLog
	}
	return &first
}

// close writes what is left, for a moment at most. It comes when nobody is told
// any more.
func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := time.Now().Add(flushTime)
	done := make(chan struct{})
	for _, g := range []*ledger{&l.request, &l.access} {
		if s := g.now.Swap(nil); s != nil {
			s.Close(end)
		}
	}
	go func() { l.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Until(end)):
	}
}

// put hands a line over. Whoever finds the log closed finds its successor.
func (g *ledger) put(line []byte) {
	for s := g.now.Load(); s != nil && !s.Put(line); s = g.now.Load() {
	}
}

// errNoSyslog is for systems without one, and jails without a way to it.
var errNoSyslog = errors.New("the system's log can not be reached: in a jail set access_log syslog at the start, or name a file")

// syslogTarget sends each line as a message of its own.
type syslogTarget struct{ *syslog }

// openSyslogTarget connects at once: after the start it may be too late.
func openSyslogTarget() (spool.Target, error) {
	s := newSyslog(dialSyslog)
	if s.conn == nil {
		return nil, errNoSyslog
	}
	return syslogTarget{s}, nil
}

func (t syslogTarget) Write(lines []byte) (lost int, err error) {
	for line := range eachLine(lines) {
		now := time.Now()
		if !t.send(message{now, slog.LevelInfo, line}, now.Add(queueSend)) {
			lost++
			err = errors.New("the log daemon does not take it")
		}
	}
	return lost, err
}

func (t syslogTarget) Hurry(time.Time) {}

func (t syslogTarget) Close() error {
	t.disconnect()
	return nil
}

// reopenLogs opens the logs of clients again, as HUP asks.
func (d *daemon) reopenLogs(ctx context.Context) {
	if err := d.logs.reopen(ctx); err != nil {
		d.log.Error("a log is not opened again; the one before stays", "err", err)
	}
}

// counters are there for the logs that are in use, or were.
func (l *logs) rows(t tally) {
	for _, g := range []*ledger{&l.request, &l.access} {
		written, lost := g.counts.Written.Load(), g.counts.Lost.Load()
		if g.now.Load() == nil && written+lost == 0 {
			continue
		}
		name := map[*ledger]string{&l.request: "request_log", &l.access: "access_log"}[g]
		t.count(name+"_written", written, "Lines of the log of clients that were written.")
		t.count(name+"_dropped", lost, "Lines of the log of clients that were dropped.")
	}
}
