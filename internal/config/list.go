package config

import (
	"fmt"
	"slices"

	"pen/state"
)

// listArg is an access list, by number or by name.
var listArg = Arg{Name: "LIST", Type: TypeList}

// list is the access list that an argument names. What begins with a letter is a
// name; the original took it for list 0.
func (v Value) list() state.List {
	if namesList(v.Text) {
		return state.List{Name: v.Text}
	}
	return state.Numbered(v.Int)
}

func namesList(text string) bool {
	if text == "" {
		return false
	}
	c := text[0] | 0x20
	return 'a' <= c && c <= 'z'
}

// strictList reads a list where settings stand: the number of one without a name, and
// whether there can be such a list.
func strictList(text string, least int) (int, bool) {
	if namesList(text) {
		return 0, state.CheckListName(text) == nil
	}
	n, ok := strictInt(text)
	return n, ok && n >= least && n < state.ACLs
}

// listWord is a word that says which access list is meant: one option holds a number,
// the other one a name.
func listWord(number, name state.Option, help string) Word {
	return Word{
		Name: number.String(), Kind: KindReplicated, PerService: !number.Global(), Args: []Arg{listArg}, Help: help,
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			if len(s.Args) == 0 {
				return nil, nil
			}
			if l := s.Args[0].list(); l.Name != "" {
				return []state.Op{set(s, name, state.Text(l.Name))}, nil
			}
			return []state.Op{set(s, number, state.Int(s.Args[0].Int))}, nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string {
			if l := textOf(s, v, name); l != "" {
				return line(l)
			}
			return lineInt(valueOf(s, v, number))
		},
		refuse: func(s *Statement) *Reply {
			if len(s.Args) > 0 {
				return s.refuseList(s.Args[0])
			}
			return nil
		},
	}
}

// refuseList is the answer to a list whose name can be none.
func (s *Statement) refuseList(v Value) *Reply {
	if !namesList(v.Text) {
		return nil
	}
	if err := state.CheckListName(v.Text); err != nil {
		return refused("%s: %v", s.Word.Name, err)
	}
	return nil
}

func aclOps(s *Statement, _ *environment) ([]state.Op, error) {
	list := s.Args[0].list()
	if s.No {
		return []state.Op{clearList(list)}, nil
	}
	entry, err := parseEntry(s.texts(1))
	if err != nil {
		return nil, &Refused{Err: err}
	}
	if list.Name != "" {
		return []state.Op{state.AppendNamedACL{Name: list.Name, Entry: entry}}, nil
	}
	return []state.Op{state.AppendACL{List: list.Number, Entry: entry}}, nil
}

func clearList(l state.List) state.Op {
	if l.Name != "" {
		return state.RemoveNamedACL{Name: l.Name}
	}
	return state.ClearACL{List: l.Number}
}

func aclCheck(s *Statement) *Error {
	if s.No {
		return nil
	}
	if _, err := parseEntry(s.texts(1)); err != nil {
		return &Error{Pos: s.at(1), What: err.Error()}
	}
	return nil
}

// aclRefuse drops a bad entry as the original does: the log has the reason.
func aclRefuse(s *Statement) *Reply {
	switch {
	case s.No && len(s.Args) == 0:
		return refused("no acl: expected the number of a list")
	case len(s.Args) == 0:
		return &Reply{Log: "acl: expected the number of a list"}
	}
	if reply := s.refuseList(s.Args[0]); reply != nil {
		return reply
	}
	if l := s.Args[0].list(); l.Name == "" && (l.Number < 0 || l.Number >= state.ACLs) {
		return &Reply{Log: fmt.Sprintf("add_acl: %d outside (0,%d)", l.Number, state.ACLs)}
	}
	if s.No {
		return nil
	}
	if _, err := parseEntry(s.texts(1)); err != nil {
		return &Reply{Log: err.Error()}
	}
	return nil
}

// clearLists empties the lists that statements add to.
func clearLists(statements []Statement) []state.Op {
	var ops []state.Op
	var done []state.List
	for _, s := range statements {
		if s.Word.Name != "acl" || len(s.Args) == 0 || slices.Contains(done, s.Args[0].list()) {
			continue
		}
		done = append(done, s.Args[0].list())
		ops = append(ops, clearList(s.Args[0].list()))
	}
	return ops
}

// listPlace is where a list is written.
func listPlace(l state.List) place {
	if l.Name != "" {
		return place{word: "acl " + l.Name}
	}
	return place{word: "acl", index: l.Number}
}

// list looks at a list that is used somewhere. List 0 is everybody's default.
func (a *analysis) list(at place, what string, l state.List) {
	list := a.View.List(l)
	switch {
	case l.Name != "" && list == nil && !a.broken:
		a.find(SeverityError, at, "%s %s: there is no access list of that name, and nobody would be let in", what, l)
	case l.Name == "" && list == nil:
		a.odd(at, "%s %d: there are lists 0 to %d, and those with names", what, l.Number, state.ACLs-1)
	case l != state.Numbered(0) && list != nil && len(list.Entries) == 0:
		a.odd(at, "access list %v is empty, so it permits everybody", l)
	}
}

// lists looks at the lists themselves and at who uses them.
func (a *analysis) lists() {
	for _, s := range a.View.Services {
		a.list(place{s.Name, "client_acl", 0}, "client_acl", s.ClientACL)
	}
	a.list(place{"", "control_acl", 0}, "control_acl", a.View.Global.ControlACL)
	countries := false
	for i := range a.View.ACL {
		countries = a.entries(state.Numbered(i), a.View.ACL[i].Entries) || countries
	}
	for _, l := range a.View.Named {
		countries = a.entries(state.List{Name: l.Name}, l.Entries) || countries
	}
	if !countries || a.View.Global.GeoIPDB == "" || a.GeoIP == nil {
		return
	}
	if err := a.GeoIP(a.View.Global.GeoIPDB); err != nil {
		a.odd(place{"", "geoip_db", 0}, "geoip_db: %v: country entries match nobody on this machine", err)
	}
}

// entries looks at the countries of a list, and tells whether there are any.
func (a *analysis) entries(l state.List, entries []state.ACLEntry) (countries bool) {
	seen := map[string]bool{}
	for i := range entries {
		code := entries[i].Country
		if code == "" || seen[code] {
			continue
		}
		seen[code], countries = true, true
		if what := strangeCountry(code); what != "" {
			a.odd(listPlace(l), "access list %v: country %s %s", l, code, what)
		}
	}
	if countries && a.View.Global.GeoIPDB == "" {
		a.odd(listPlace(l), "access list %v: country entries match nobody without a database: name one with `geoip_db FILE`", l)
	}
	return countries
}
