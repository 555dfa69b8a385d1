package config

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pen/state"
)

// Planner turns statements into one command. Nothing is changed by it.
type Planner struct {
	Resolve  Resolver      // nil: the system's
	Patience time.Duration // for all names together; 0: 5 seconds
	View     *state.View   // the state as it is; nil: that of a new machine
	Local    Local         // the settings as they are
	Now      time.Time
	// Rebuild empties each access list that the statements add to before they
	// do, so that reading a file again does not add its entries twice. All else
	// is additive, as in the original.
	Rebuild bool
	// Running says that the process has started: what matters only at start is
	// noted for Write, and otherwise stays as it is. Rebuild implies it.
	Running bool
}

// Plan is what statements come to.
type Plan struct {
	Ops     []state.Op
	View    *state.View // the state as it will be
	Local   Local
	Replies string // of the statements of files and of -O, as the original prints them at start
}

// Listening tells whether any service has a listener.
func (p *Plan) Listening() bool {
	return slices.ContainsFunc(p.View.Services, func(s *state.Service) bool { return s.Listen.Text != "" })
}

const (
	defaultPatience = 5 * time.Second
	maxRefusals     = 20 // of the machine, each costs a search
)

// Plan resolves all names at once and checks the whole; it is for all statements
// or for none. The error is of type Errors and has every statement that can not
// be carried out.
func (p Planner) Plan(ctx context.Context, statements []Statement) (*Plan, error) {
	plan, errs := p.plan(ctx, statements)
	if len(errs) > 0 {
		return nil, errs
	}
	return plan, nil
}

// Ops are the changes that one statement of the control port asks for, as
// Statement.Ops; a service that it adds to a cluster gets its first choice. The
// error is a *Refused.
func (p Planner) Ops(ctx context.Context, s *Statement) ([]state.Op, error) {
	ops, err := s.Ops(ctx, p.Resolve, p.View, p.Now)
	first := firstChoice{clustered: p.Local.Clustered()}
	return first.with(ops, func(name string) bool { return p.View.Service(name) != nil }), err
}

// step is the operations of one statement.
type step struct {
	statement *Statement
	ops       []state.Op
}

// plan leaves out what can not be carried out.
func (p Planner) plan(ctx context.Context, statements []Statement) (*Plan, Errors) {
	if p.View == nil {
		p.View = state.New().View()
	}
	if p.Patience == 0 {
		p.Patience = defaultPatience
	}
	ctx, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()

	plan := &Plan{Local: p.settings(statements)}
	first := newFirstChoice(plan.Local.Clustered(), statements)
	d := draft{services: map[string]*outline{}, view: p.View, first: first}
	e := &environment{
		ctx: ctx, resolve: resolveAll(ctx, p.Resolve, statements), now: p.Now,
		blacklist: func(name string) int { return d.service(name).blacklist },
		port:      func(name string) uint16 { return d.service(name).port },
		servers:   d.servers,
	}
	if p.Running || p.Rebuild {
		e.setting = settingsOf(p.View)
	}
	d.findPorts(e, statements)

	var errs Errors
	var steps []step
	if first.clustered && !p.Running && !p.Rebuild && len(state.Ops(p.View)) == 0 {
		steps = append(steps, step{ops: first.of(state.DefaultService)})
	}
	if p.Rebuild {
		steps = append(steps, step{ops: clearLists(statements)})
	}
	for i := range statements {
		s := &statements[i]
		ops, err := d.step(e, s)
		if err != nil {
			errs = append(errs, &Error{Pos: s.Pos, What: err.Error(), Err: err})
			continue
		}
		if len(ops) > 0 {
			steps = append(steps, step{s, ops})
		}
	}
	plan.apply(p, steps, &errs)
	plan.reply(statements)
	return plan, errs
}

// settings are those of this process as the statements leave them.
func (p Planner) settings(statements []Statement) Local {
	l := p.Local
	filed := map[string]string{}
	for i := range statements {
		s := &statements[i]
		if !s.Word.Start || !p.Running && !p.Rebuild {
			s.Set(&l)
		}
		if s.Word.Start && s.place == InFile {
			s.file(filed, filepath.Dir(l.File))
		}
	}
	if len(filed) > 0 {
		l.Filed = maps.Clone(p.Local.Filed)
		if l.Filed == nil {
			l.Filed = map[string]string{}
		}
		maps.Copy(l.Filed, filed)
	}
	l.complete()
	return l
}

// file remembers what a file has said about the start; home is the directory of
// the one that is written.
func (s *Statement) file(filed map[string]string, home string) {
	text := strings.Join(append([]string{s.what()}, s.texts(0)...), " ")
	if before := filed[s.Word.Name]; s.Word.Several && before != "" {
		text = before + "\n" + text
	}
	if s.Word.Name == "cluster_key" {
		text = keyLine(text, s.dir, home)
	}
	filed[s.Word.Name] = text
}

// reply gathers the answers. They are read when all is done, so of a setting that
// is given twice the last value is told twice.
func (p *Plan) reply(statements []Statement) {
	var b strings.Builder
	for i := range statements {
		if s := &statements[i]; !s.quiet && s.place != InControl {
			b.WriteString(s.Reply(p.View, &p.Local))
		}
	}
	p.Replies = b.String()
}

// apply tries the steps on the state. When the machine refuses, the statement
// that it refuses is searched for and left out.
func (p *Plan) apply(from Planner, steps []step, errs *Errors) {
	p.View = from.View
	for range maxRefusals {
		view, err := from.try(steps)
		if err == nil {
			p.View, p.Ops = view, flatten(steps)
			return
		}
		bad := from.firstBad(steps)
		e := &Error{What: err.Error(), Err: err}
		*errs = append(*errs, e)
		if bad == len(steps) || steps[bad].statement == nil {
			return
		}
		if _, err = from.try(steps[:bad+1]); err != nil {
			e.What, e.Err = err.Error(), err
		}
		e.Pos = steps[bad].statement.Pos
		steps = slices.Delete(steps, bad, bad+1)
	}
}

func (p Planner) try(steps []step) (*state.View, error) {
	return p.View.With(state.Command{Time: state.At(p.Now), Ops: flatten(steps)})
}

// firstBad is the index of the first step with which the state refuses.
func (p Planner) firstBad(steps []step) int {
	low, high := 0, max(0, len(steps)-1)
	for low < high {
		middle := (low + high) / 2
		if _, err := p.try(steps[:middle+1]); err != nil {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

func flatten(steps []step) []state.Op {
	var all []state.Op
	for _, s := range steps {
		all = append(all, s.ops...)
	}
	return all
}

// outline is as much of a service as later statements depend on.
type outline struct {
	blacklist int
	servers   int
	port      uint16
}

// draft follows what the statements before have done.
type draft struct {
	view     *state.View
	services map[string]*outline
	first    firstChoice
	gone     []string // services that a statement has removed
}

// service returns the outline of a service, whether it exists or not.
func (d *draft) service(name string) *outline {
	o := d.services[name]
	if o == nil {
		s := serviceOr(d.view, name)
		o = &outline{blacklist: s.Blacklist, servers: len(s.Servers), port: s.Listen.Addr.Port()}
		d.services[name] = o
	}
	return o
}

func (d *draft) exists(name string) bool {
	return !slices.Contains(d.gone, name) && (d.services[name] != nil || d.view.Service(name) != nil)
}

func (d *draft) servers(name string) int {
	if !d.exists(name) {
		return -1
	}
	return d.service(name).servers
}

// findPorts looks for the listeners that will be, since a server without a port
// takes theirs wherever it stands.
func (d *draft) findPorts(e *environment, statements []Statement) {
	ports := map[string]uint16{}
	for _, s := range statements {
		if s.Word.Name != "listen" || len(s.Args) == 0 {
			continue
		}
		if l, err := e.listen(s.Args[0].Text); err == nil {
			ports[s.Service] = l.Addr.Port()
		}
	}
	e.port = func(name string) uint16 {
		if port, ok := ports[name]; ok {
			return port
		}
		return d.service(name).port
	}
}

// step returns the operations of one statement. In a file a service comes
// into being with the first statement about it.
func (d *draft) step(e *environment, s *Statement) ([]state.Op, error) {
	switch {
	case s.Word.Kind != KindReplicated:
		return nil, nil
	case s.Word.PerService && s.place == InControl && !d.exists(s.Service):
		return nil, absent(fmt.Errorf("no service %s", s.Service))
	}
	ops, err := s.operations(e)
	if err != nil || len(ops) == 0 {
		return nil, err
	}
	if s.Word.PerService && !d.exists(s.Service) {
		ops = slices.Insert(ops, 0, state.Op(state.AddService{Service: s.Service}))
	}
	ops = d.first.with(ops, d.exists)
	for _, op := range ops {
		d.follow(op)
	}
	return ops, nil
}

// follow keeps the outlines right.
func (d *draft) follow(op state.Op) {
	switch op := op.(type) {
	case state.AddService:
		d.service(op.Service)
		d.gone = slices.DeleteFunc(d.gone, func(name string) bool { return name == op.Service })
	case state.RemoveService:
		d.services[op.Service] = &outline{blacklist: state.Defaults().Blacklist}
		if op.Service != state.DefaultService {
			d.gone = append(d.gone, op.Service)
		}
	case state.Set:
		if op.Option == state.OptBlacklist {
			d.service(op.Service).blacklist = op.Value.Int()
		}
	case state.SetServer:
		o := d.service(op.Service)
		o.servers = max(o.servers, op.Index+1)
	case state.RemoveServer:
		if o := d.service(op.Service); op.Index == o.servers-1 && op.Index >= 0 {
			o.servers--
		}
	}
}
