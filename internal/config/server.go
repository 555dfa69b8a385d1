package config

import (
	"fmt"
	"strings"
	"time"

	"pen/state"
)

// serverKeys are the keys of `server N KEY VALUE ...`.
var serverKeys = []string{"acl", "address", "blacklist", "hard", "max", "port", "prio", "weight"}

// A hole in the list of servers, as the original writes it: it has no address
// and the line can not be read back by the original either.
const (
	holeMark  = "(unknown"
	holeWords = 4 // "(unknown address family 0"
)

// serverOps changes one slot. The original applies pairs from left to right and
// stops at an address that can not be resolved; here such a line changes nothing.
func serverOps(s *Statement, e *environment) ([]state.Op, error) {
	if s.spec != nil {
		op, err := s.spec.op(e, s.Service, s.Args[0].Int)
		if err != nil {
			return nil, &Refused{Err: err}
		}
		return []state.Op{op}, nil
	}
	index := s.Args[0].Int
	if s.No {
		if index >= e.servers(s.Service) {
			return s.missing(fmt.Errorf("no server %d", index))
		}
		return []state.Op{state.RemoveServer{Service: s.Service, Index: index}}, nil
	}
	op := state.SetServer{Service: s.Service, Index: index}
	for i := 1; i+1 < len(s.Args); i += 2 {
		if err := setPair(&op, s.Args[i].Text, s.Args[i+1], e); err != nil {
			return nil, &Refused{Err: err}
		}
	}
	if op.Server.Path() {
		op.Fields |= state.FieldPort
		op.Server.Port = 1 // what the original shows for a Unix socket
	}
	return []state.Op{op}, nil
}

func setPair(op *state.SetServer, key string, value Value, e *environment) error {
	server := &op.Server
	switch key {
	case "acl":
		op.Fields &^= state.FieldACL | state.FieldACLName
		if server.ACL = value.list(); server.ACL.Name != "" {
			op.Fields |= state.FieldACLName
		} else {
			op.Fields |= state.FieldACL
		}
	case "address":
		address, err := e.address(value.Text)
		if err != nil {
			return fmt.Errorf("server %d address %s: %w", op.Index, value.Text, err)
		}
		op.Fields |= state.FieldAddress
		server.Address = address
	case "blacklist":
		op.Fields |= state.FieldMark
		server.Mark = mark(e.now, value.Int, e.blacklist(op.Service))
	case "hard":
		op.Fields |= state.FieldHard
		server.Hard = value.Int
	case "max":
		op.Fields |= state.FieldSoft
		server.Soft = value.Int
	case "port":
		op.Fields |= state.FieldPort
		server.Port = uint16(value.Int)
	case "prio":
		op.Fields |= state.FieldPrio
		server.Prio = value.Int
	case "weight":
		op.Fields |= state.FieldWeight
		server.Weight = value.Int
	}
	return nil
}

// mark is the time of failure that shuns a server for so many seconds from now.
// It is relative to the service's blacklist time, as in the original.
func mark(now time.Time, seconds, blacklist int) state.Time {
	if seconds <= 0 {
		return 0
	}
	at := state.At(now) + state.Time(seconds-blacklist)*1000
	return max(at, 0)
}

// serverRefuse ignores what the original ignores.
func serverRefuse(s *Statement) *Reply {
	switch {
	case len(s.Args) == 0 && s.No:
		return refused("no server: expected the number of a server")
	case len(s.Args) == 0:
		return &Reply{Log: "server: expected the number of a server"}
	}
	n := s.Args[0].Int
	switch {
	case n >= state.MaxServers:
		return refused("server: %d is outside 0..%d", n, state.MaxServers-1)
	case n < 0:
		return &Reply{Log: fmt.Sprintf("server: %d is negative", n)}
	}
	if err := s.checkAddresses(); err != nil {
		return refused("server: %v", err)
	}
	for i := 1; i+1 < len(s.Args); i += 2 {
		if s.Args[i].Text != "acl" {
			continue
		}
		if reply := s.refuseList(s.Args[i+1]); reply != nil {
			return reply
		}
	}
	return nil
}

// checkAddresses finds those that a file could not hold and those that can be
// nothing. Whether a name exists is asked later.
func (s *Statement) checkAddresses() error {
	for i := 1; i+1 < len(s.Args); i += 2 {
		if s.Args[i].Text != "address" {
			continue
		}
		host := s.Args[i+1].Text
		if err := checkText(s.Word.Name, host); err != nil {
			return err
		}
		if strings.Contains(host, "/") {
			if err := checkPath(host); err != nil {
				return err
			}
		}
	}
	return nil
}

// loosePairs keeps the pairs whose key is known.
func loosePairs(words []field) []Value {
	var kept []Value
	for i := 0; i+1 < len(words); i += 2 {
		key, value := words[i], words[i+1]
		if !isServerKey(key.text) {
			continue
		}
		v := Value{Text: value.text, Column: value.column}
		if key.text != "address" {
			v.Int = atoi(value.text)
		}
		kept = append(kept, Value{Text: key.text, Column: key.column}, v)
	}
	return kept
}

func isServerKey(key string) bool {
	for _, k := range serverKeys {
		if k == key {
			return true
		}
	}
	return false
}

// strictPairs takes pairs only as they should be.
func (r *reader) strictPairs(words []field) []Value {
	var all []Value
	seen := map[string]bool{}
	for len(words) > 0 {
		key := words[0]
		switch {
		case !isServerKey(key.text):
			r.fail(key.column, fmt.Sprintf("unknown key %q of server", key.text), oneOf(serverKeys), nearest(key.text, serverKeys))
		case seen[key.text]:
			r.fail(key.column, key.text+" given twice", "", "")
		case len(words) == 1:
			r.fail(key.column, key.text+" without a value", r.pairWant(key.text), "")
		}
		if len(words) < 2 {
			return all
		}
		seen[key.text] = true
		value := words[1]
		used := 2
		v := Value{Text: value.text, Column: value.column}
		if isHole(words) {
			used = 1 + holeWords
		} else if isServerKey(key.text) {
			v.Int = r.pair(key.text, value)
		}
		if used == 2 {
			all = append(all, Value{Text: key.text, Column: key.column}, v)
		}
		words = words[used:]
	}
	return all
}

func isHole(words []field) bool {
	return len(words) >= 1+holeWords && words[0].text == "address" && words[1].text == holeMark &&
		words[2].text == "address" && words[3].text == "family"
}

func (r *reader) pairWant(key string) string {
	switch key {
	case "address":
		return "a name, an address or a path"
	case "port":
		return "a number from 0 to 65535 or the name of a service"
	case "acl":
		return listArg.want()
	}
	return "a number"
}

// pair checks one value and returns its number.
func (r *reader) pair(key string, value field) int {
	switch key {
	case "address":
		if err := checkServerHost(value.text); err != nil {
			r.fail(value.column, err.Error(), r.pairWant(key), "")
		}
		return 0
	case "port":
		n, ok := servicePort(value.text)
		if !ok {
			r.fail(value.column, fmt.Sprintf("port %q", value.text), r.pairWant(key), "")
		}
		return n
	}
	n, ok := strictInt(value.text)
	if key == "acl" && namesList(value.text) {
		ok = state.CheckListName(value.text) == nil
	}
	if !ok {
		r.fail(value.column, fmt.Sprintf("%s %q", key, value.text), r.pairWant(key), "")
	}
	return n
}

func checkServerHost(host string) error {
	if strings.Contains(host, "/") {
		return checkPath(host)
	}
	return checkHost(host)
}
