package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pen/internal/config"
	"pen/state"
)

// askFile asks a node for the settings that its file and command line ask for.
const askFile = "file"

// fileSettings reads this node's file, and tells what a start with it would ask
// for, as a command that makes it.
func (d *daemon) fileSettings(ctx context.Context) ([]byte, error) {
	var statements []config.Statement
	if file := d.local.Load().File; file != "" {
		d.reading.Lock()
		defer d.reading.Unlock()
		var err error
		if statements, err = config.ParseFile(file); err != nil {
			return nil, err
		}
	}
	plan, err := d.wanted(ctx, statements)
	if err != nil {
		return nil, err
	}
	seed, err := seedOf(plan.View)
	return seed.Seed, err
}

// diffWord compares the settings in force with those of a node's file.
func (d *daemon) diffWord(ctx context.Context, q question) error {
	node := q.word(1)
	var b []byte
	var err error
	switch {
	case node == "":
		b, err = d.fileSettings(ctx)
	case d.member == nil:
		err = errAlone
	default:
		b, err = d.member.node.Query(ctx, node, askFile)
	}
	if err != nil {
		return refuse(q.w, err)
	}
	file := state.New()
	if r := file.ApplyBytes(b); r.Err != nil {
		return refuse(q.w, fmt.Errorf("the settings of the file can not be understood: %w", r.Err))
	}
	now := d.state.View()
	all := config.Differences(file.View(), now)
	if len(all) == 0 {
		fmt.Fprintln(q.w, "no difference")
	}
	for i, x := range all {
		sign := "-"
		if x.Second {
			sign = "+"
		}
		line := sign + " " + x.Line
		// Who it was stands at the last line about it.
		if i+1 == len(all) || all[i+1].Subject != x.Subject {
			if c := lastAbout(now.Changes(), x.Subject); c != nil {
				line += "  # " + whenAndWho(c)
			}
		}
		fmt.Fprintln(q.w, line)
	}
	return nil
}

// lastAbout is the last change that was about that, or nil.
func lastAbout(all []state.Change, subject string) *state.Change {
	service, _, _ := strings.Cut(subject, "/")
	for i := range slices.Backward(all) {
		for _, o := range all[i].Ops() {
			if about := config.Subjects(o); about == subject || about == service+"/" {
				return &all[i]
			}
		}
	}
	return nil
}

func whenAndWho(c *state.Change) string {
	by := c.By
	if by == "" {
		by = "unknown"
	}
	return c.Time.Time().Format(time.DateTime) + " " + by
}

// logWord tells the last changes, the newest last.
func (d *daemon) logWord(_ context.Context, q question) error {
	if d.member == nil {
		return refuse(q.w, errAlone)
	}
	v := d.state.View()
	if v.Level() < 2 {
		return refuse(q.w, fmt.Errorf("changes are not kept yet: %s", d.member.waits()))
	}
	all := v.Changes()
	if n, err := strconv.Atoi(q.word(1)); err == nil && n < len(all) {
		all = all[len(all)-n:]
	}
	for i := range all {
		fmt.Fprintln(q.w, d.member.changeText(&all[i]))
	}
	if len(all) == 0 {
		fmt.Fprintln(q.w, "no change since they are kept")
	}
	return nil
}

// waits tells why the state's level does not rise.
func (m *member) waits() string {
	p := &picture{NodeStatus: m.node.Status()}
	return p.level()
}

// level tells which level of the state is in use, and what it waits for.
func (p *picture) level() string {
	l := p.Level
	switch {
	case l.Now >= l.Known:
		return fmt.Sprintf("state level %d", l.Now)
	case len(l.Waits) == 0:
		return fmt.Sprintf("state level %d, and %d in a moment", l.Now, l.Known)
	}
	return fmt.Sprintf("state level %d, and %d when all know it: %s", l.Now, l.Known, strings.Join(l.Waits, ", "))
}

// changeText is a change in one line: when, who, and what as it could have been
// typed.
func (m *member) changeText(c *state.Change) string {
	var words []string
	for _, o := range c.Ops() {
		words = append(words, m.opText(o))
	}
	if c.More > 0 {
		words = append(words, fmt.Sprintf("and %d more", c.More))
	}
	if len(words) == 0 {
		words = append(words, "known clients")
	}
	return whenAndWho(c) + ": " + strings.Join(words, "; ")
}

// opText says an operation with the names that people know.
func (m *member) opText(o state.Op) string {
	switch o := o.(type) {
	case state.SetNode:
		p := &picture{NodeStatus: m.node.Status()}
		word := "undrain"
		if o.Drained {
			word = "drain"
		}
		return "cluster " + word + " " + p.name(o.Node)
	case state.SetServer:
		if o.Fields != state.FieldMark {
			break
		}
		until := "0"
		if o.Server.Mark != 0 {
			until = "from " + o.Server.Mark.Time().Format(time.DateTime)
		}
		o.Fields = 0
		return o.String() + " blacklist " + until
	}
	return fmt.Sprint(o)
}
