package config

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"

	"pen/state"
)

// Difference is a line that only one of two settings has.
type Difference struct {
	Line string // as it could be typed at the control port
	// Second tells that the second has it; else the first has.
	Second bool
	// Subject is what the line is about, see Subjects.
	Subject string
}

// Differences compares the settings of two views, line by line. Marks, clients
// and what the files have said before are no settings.
func Differences(first, second *state.View) (all []Difference) {
	all = compare(all, globalLines(first), globalLines(second))
	for i := range first.ACL {
		all = compareLists(all, state.Numbered(i), first.ACL[i].Entries, second.ACL[i].Entries)
	}
	for _, name := range listNames(first, second) {
		l := state.List{Name: name}
		all = compareLists(all, l, entriesOf(first, l), entriesOf(second, l))
	}
	for _, s := range first.Services {
		all = compareServices(all, s, second.Service(s.Name), s.Name)
	}
	for _, s := range second.Services {
		if first.Service(s.Name) == nil {
			all = compareServices(all, nil, s, s.Name)
		}
	}
	return all
}

// Subjects tells what an operation is about, in the same words as
// Difference.Subject. Of a service as a whole it is its name and a slash.
func Subjects(o state.Op) string {
	named := func(service, what string) string {
		if service == "" {
			service = state.DefaultService
		}
		return service + "/" + what
	}
	switch o := o.(type) {
	case state.Set:
		if o.Option.Global() {
			return o.Option.String()
		}
		return named(o.Service, o.Option.String())
	case state.SetServer:
		return named(o.Service, slotName(o.Index))
	case state.RemoveServer:
		return named(o.Service, slotName(o.Index))
	case state.AddService:
		return named(o.Service, "")
	case state.RemoveService:
		return named(o.Service, "")
	case state.AppendACL:
		return fmt.Sprint("acl ", o.List)
	case state.ClearACL:
		return fmt.Sprint("acl ", o.List)
	case state.AppendNamedACL:
		return "acl " + o.Name
	case state.RemoveNamedACL:
		return "acl " + o.Name
	}
	return ""
}

func slotName(i int) string {
	switch i {
	case state.Emergency:
		return "emergency"
	case state.Abuse:
		return "abuse"
	}
	return fmt.Sprint("server ", i)
}

// settingLine is a line and what it is about.
type settingLine struct{ text, subject string }

func globalLines(v *state.View) []settingLine {
	geo := "geoip_db " + v.Global.GeoIPDB
	if v.Global.GeoIPDB == "" {
		geo = "no geoip_db"
	}
	return []settingLine{
		{fmt.Sprint("control_acl ", v.Global.ControlACL), "control_acl"},
		{fmt.Sprint("drain_timeout ", v.Global.DrainTimeout), "drain_timeout"},
		{geo, "geoip_db"},
	}
}

// serviceLines are those that write saves of a service.
func serviceLines(s *state.Service) (all []settingLine) {
	var b bytes.Buffer
	w := writer{bufio.NewWriter(&b)}
	w.original(s, nil, nil)
	w.beyond(s)
	_ = w.Flush() // into memory
	before := ""
	if s.Name != state.DefaultService {
		before = "service " + s.Name + " "
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(strings.TrimPrefix(line, "no "))
		what := words[0]
		if what == "server" {
			what += " " + words[1]
		}
		all = append(all, settingLine{before + line, s.Name + "/" + what})
	}
	return all
}

// compareServices compares one that is missing with one that is new.
func compareServices(all []Difference, first, second *state.Service, name string) []Difference {
	bare := &state.Service{Name: name, Settings: state.Defaults()}
	whole := Difference{Line: "service " + name, Subject: name + "/"}
	switch {
	case first == nil:
		first, whole.Second = bare, true
		all = append(all, whole)
	case second == nil:
		second = bare
		all = append(all, whole)
	}
	start := len(all)
	all = compare(all, serviceLines(first), serviceLines(second))
	if first != bare && second != bare {
		return all
	}
	kept := all[:start] // the defaults of one that is not there say nothing
	for _, d := range all[start:] {
		if d.Second == whole.Second {
			kept = append(kept, d)
		}
	}
	return kept
}

// compare takes lines in which each subject has one place.
func compare(all []Difference, first, second []settingLine) []Difference {
	theirs := map[string]string{}
	for _, l := range second {
		theirs[l.subject] = l.text
	}
	for _, l := range first {
		text, there := theirs[l.subject]
		if delete(theirs, l.subject); there && text == l.text {
			continue
		}
		all = append(all, Difference{l.text, false, l.subject})
		if there {
			all = append(all, Difference{text, true, l.subject})
		}
	}
	for _, l := range second {
		if _, left := theirs[l.subject]; left {
			all = append(all, Difference{l.text, true, l.subject})
		}
	}
	return all
}

// listNames are the lists with names of both, each once, in order.
func listNames(first, second *state.View) []string {
	var all []string
	for _, v := range []*state.View{first, second} {
		for _, l := range v.Named {
			all = append(all, l.Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func entriesOf(v *state.View, l state.List) []state.ACLEntry {
	if list := v.List(l); list != nil {
		return list.Entries
	}
	return nil
}

// compareLists leaves out what two lists have in common at their beginnings and
// ends: the order of the rest matters.
func compareLists(all []Difference, list state.List, first, second []state.ACLEntry) []Difference {
	for len(first) > 0 && len(second) > 0 && first[0] == second[0] {
		first, second = first[1:], second[1:]
	}
	for len(first) > 0 && len(second) > 0 && first[len(first)-1] == second[len(second)-1] {
		first, second = first[:len(first)-1], second[:len(second)-1]
	}
	subject := fmt.Sprint("acl ", list)
	for _, e := range first {
		all = append(all, Difference{fmt.Sprintf("acl %v %v", list, e), false, subject})
	}
	for _, e := range second {
		all = append(all, Difference{fmt.Sprintf("acl %v %v", list, e), true, subject})
	}
	return all
}
