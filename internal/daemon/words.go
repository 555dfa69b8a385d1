package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pen/internal/config"
	"pen/internal/control"
	"pen/proxy"
	"pen/state"
)

// question is one statement with everything that answering it needs.
type question struct {
	*config.Statement
	by    string
	w     *bufio.Writer
	force bool // `cluster force` stood before it
}

// handlers carry out the words that are no setting, and answer those that are not
// answered from the settings alone. Their replies are the original's, to the byte. An error is for
// the log; the peer gets what was written.
var handlers = map[string]func(*daemon, context.Context, question) error{
	"close":      (*daemon).closeConnection,
	"cluster":    (*daemon).clusterWord,
	"connection": (*daemon).connection,
	"counters":   (*daemon).counters,
	"exit":       (*daemon).exit,
	"idlers":     (*daemon).idlers,
	"include":    (*daemon).includeWord,
	"recent":     (*daemon).recent,
	"reload":     (*daemon).reloadWord,
	"servers":    (*daemon).servers,
	"services":   (*daemon).services,
	"socket":     (*daemon).socket,
	"status":     (*daemon).status,
	"write":      (*daemon).write,
}

// answer is the handler of the control port: one line, one reply.
func (d *daemon) answer(ctx context.Context, from control.Peer, line string, w io.Writer) {
	d.log.Debug("control", "peer", from, "line", line)
	command, force := forcedCommand(line)
	s, reply := config.ParseControl(command)
	if reply != nil {
		if reply.Log != "" {
			d.log.Info(reply.Log, "peer", from)
		}
		io.WriteString(w, reply.Text)
		return
	}
	b := bufio.NewWriterSize(w, 16<<10)
	defer func() { _ = b.Flush() }() // the peer may have gone
	if err := d.obey(ctx, question{s, "control " + from.String(), b, force}); err != nil {
		d.log.Info("refused", "command", line, "peer", from, "err", err)
	}
}

// obey carries a statement out and writes the reply.
func (d *daemon) obey(ctx context.Context, q question) error {
	if q.force {
		if err := d.forceable(q); err != nil {
			return refuse(q.w, err)
		}
	}
	if q.Word.PerService && q.Word.Kind == config.KindRead && d.state.View().Service(q.Service) == nil {
		return refuse(q.w, fmt.Errorf("there is no service %s; the word services tells which there are", q.Service))
	}
	if q.Word.Kind == config.KindReplicated || q.Word.Kind == config.KindLocal {
		err := d.carryOut(ctx, q.by, q.Statement, q.force)
		if refused, ok := errors.AsType[*config.Refused](err); ok {
			q.w.WriteString(refused.Reply)
			return refused
		}
		if err != nil {
			return refuse(q.w, err)
		}
	}
	if handle := handlers[q.Word.Name]; handle != nil {
		d.settle(ctx)
		return handle(d, ctx, q)
	}
	q.w.WriteString(q.Reply(d.state.View(), d.local.Load()))
	return nil
}

// settlePatience is how long a report waits for what was decided moments ago.
const settlePatience = 50 * time.Millisecond

// settle makes reports show what has happened until now. If that takes long,
// they show it as it is.
func (d *daemon) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err := d.proxy.Settle(ctx); err != nil {
		d.log.Debug("a report does not wait for the latest clients", "err", err)
	}
}

// refuse tells the peer why nothing was done, and hands the reason back for the
// log.
func refuse(w *bufio.Writer, err error) error {
	fmt.Fprintf(w, "%s%s\n", control.Refusal, err)
	return err
}

func (d *daemon) servers(_ context.Context, q question) error {
	s := d.state.View().Service(q.Service)
	figures := d.serverStats(q.Service)
	for i := range s.Servers {
		sv := &s.Servers[i]
		var f proxy.ServerStats
		if i < len(figures) {
			f = figures[i]
		}
		fmt.Fprintf(q.w, "%d addr %s port %d conn %d max %d hard %d weight %d prio %d sx %d rx %d\n",
			i, address(sv), port(sv), f.Conns, sv.Soft, sv.Hard, sv.Weight, sv.Prio, f.Sent, f.Received)
	}
	if whose := d.whose(); whose != "" {
		fmt.Fprintln(q.w, whose)
	}
	return nil
}

// address is a server's address as the original prints it.
func address(s *state.Server) string {
	switch {
	case s.Path():
		return s.Host
	case !s.IP.IsValid():
		return "(unknown address family 0"
	}
	return s.IP.String()
}

// port is a server's port as the original prints it.
func port(s *state.Server) int {
	if s.Path() {
		return 1
	}
	return int(s.Port)
}

// clientText is a client's address; those on Unix sockets have none.
func clientText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// services tells them all, with what a glance wants to know.
func (d *daemon) services(_ context.Context, q question) error {
	for _, s := range d.state.View().Services {
		listen := d.proxy.Address(s.Name)
		switch {
		case config.Direct(s) && s.Listen.Text != "":
			listen = s.Listen.Text
		case listen == "":
			listen = "-"
		}
		fmt.Fprintf(q.w, "%s listen %s servers %d clients %d conn %d\n",
			s.Name, listen, len(s.Servers), s.Clients().Len(), d.proxy.Stats(s.Name).Used)
	}
	return nil
}

// recentSpan is how far back `recent` looks when it is not told.
const recentSpan = 300

func (d *daemon) recent(_ context.Context, q question) error {
	span := recentSpan
	if len(q.Args) > 0 {
		span = q.Args[0].Int
	}
	since := d.clock.At(time.Now()) - state.Time(span)*1000
	for c := range d.proxy.Clients(q.Service) {
		if c.Used >= since {
			fmt.Fprintf(q.w, "%s connects %d sx %d rx %d\n", clientText(c.Client), c.Connects, c.Sent, c.Received)
		}
	}
	return nil
}

// number returns the first argument, or 0.
func (q question) number() int {
	if len(q.Args) == 0 {
		return 0
	}
	return q.Args[0].Int
}

func (d *daemon) connection(_ context.Context, q question) error {
	c, ok := d.proxy.Connection(q.Service, q.number())
	if !ok {
		fmt.Fprintf(q.w, "Connection %d out of range\n", q.number())
		return nil
	}
	fmt.Fprintf(q.w, "Connection %d:\nstate = %d\ndownfd = %d, upfd = %d\nclient = %d, server = %d\npend = %d\n",
		q.number(), c.State, c.DownFD, c.UpFD, c.Client, c.Server, c.State&proxy.StateConnecting)
	return nil
}

func (d *daemon) closeConnection(_ context.Context, q question) error {
	n := q.number()
	if n < 0 || n >= d.proxy.Stats(q.Service).Max {
		fmt.Fprintf(q.w, "Connection %d out of range\n", n)
		return nil
	}
	fmt.Fprintf(q.w, "Forcibly closing connection %d\n", n)
	d.proxy.CloseConnection(q.Service, n)
	return nil
}

// idlers tells how many connections for no client there are, and how many are wanted.
func (d *daemon) idlers(_ context.Context, q question) error {
	s := d.state.View().Service(q.Service)
	if s == nil { // asked about, and not there
		q.w.WriteString(q.Reply(d.state.View(), d.local.Load()))
		return nil
	}
	fmt.Fprintf(q.w, "Idlers: %d/%d\n", d.proxy.Stats(q.Service).Idlers, s.Idlers)
	return nil
}

func (d *daemon) socket(_ context.Context, q question) error {
	fd, owner := q.number(), -1
	for _, c := range d.proxy.Connections(q.Service) {
		if c.DownFD == fd || c.UpFD == fd {
			owner = c.Slot
		}
	}
	fmt.Fprintf(q.w, "Socket %d belongs to connection %d\n", fd, owner)
	return nil
}

func (d *daemon) exit(_ context.Context, q question) error {
	if !d.local.Load().AllowExit {
		q.w.WriteString("Exit is not enabled; restart with -X flag\n")
		return nil
	}
	d.log.Info("ended through the control port", "by", q.by)
	d.end()
	return nil
}

func (d *daemon) reloadWord(ctx context.Context, q question) error {
	if err := d.logs.reopen(ctx); err != nil {
		return refuse(q.w, err)
	}
	note, err := d.reload(ctx, q.by)
	if err != nil {
		return refuse(q.w, err)
	}
	if note != "" {
		fmt.Fprintln(q.w, note)
	}
	return nil
}

func (d *daemon) includeWord(ctx context.Context, q question) error {
	if err := d.include(ctx, q.by, q.Args[0].Text); err != nil {
		return refuse(q.w, err)
	}
	return nil
}

func (d *daemon) write(_ context.Context, q question) error {
	local := d.local.Load()
	file := local.File
	if len(q.Args) > 0 {
		file = q.Args[0].Text
	}
	if file == "" {
		return refuse(q.w, errors.New("there is no file to write to: name one, or start with -F FILE"))
	}
	if err := d.ownFile(file); err != nil {
		return refuse(q.w, fmt.Errorf("write: %w", err))
	}
	if err := config.Save(file, d.state.View(), *local, time.Now()); err != nil {
		return refuse(q.w, err)
	}
	return nil
}

// report gathers what the status page shows of a service.
func (d *daemon) report(service string) *report {
	return &report{
		now:         time.Now(),
		clock:       d.clock.At(time.Now()),
		standing:    d.standing(),
		service:     d.state.View().Service(service),
		stats:       d.proxy.Stats(service),
		servers:     d.serverStats(service),
		clients:     d.proxy.Clients(service),
		connections: d.proxy.Connections(service),
	}
}

// status writes the page to its file and sends it, as the original does.
func (d *daemon) status(_ context.Context, q question) error {
	err := errors.New("no file for the status page: see web_stats")
	if file := d.local.Load().WebStats; file != "" {
		if err = d.ownFile(file); err == nil {
			err = writePage(file, d.report(q.Service))
		}
	}
	if err != nil {
		q.w.WriteString("Unable to create webstats\n")
		return err
	}
	return d.report(q.Service).html(q.w)
}

// writePage replaces the status file in one step, so that a web server that
// reads it meanwhile finds the old page or the new one. What is no plain file (a
// link, a device) stays what it is, and so does a file in a directory that this
// process may not change: these are written in place.
func writePage(file string, r *report) (err error) {
	if info, err := os.Lstat(file); err == nil && !info.Mode().IsRegular() {
		return writeInPlace(file, r)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".pen-status-*")
	if errors.Is(err, os.ErrPermission) {
		return writeInPlace(file, r)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(r.html(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// writeInPlace does not wait for somebody to read a pipe.
func writeInPlace(file string, r *report) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(r.html(f), f.Close())
}

// tell reports as USR1 asks: into the status file, or as text into the log.
func (d *daemon) tell(ctx context.Context) {
	d.settle(ctx)
	if file := d.local.Load().WebStats; file != "" {
		err := d.ownFile(file)
		if err == nil {
			err = writePage(file, d.report(state.DefaultService))
		}
		if err != nil {
			d.log.Error("status page", "file", file, "err", err)
		}
		return
	}
	for _, s := range d.state.View().Services {
		d.report(s.Name).log(d.log)
	}
}
