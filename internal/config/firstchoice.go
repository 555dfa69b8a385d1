package config

import (
	"slices"

	"pen/state"
)

// firstChoice gives the services of a cluster their first choice. A client whose
// node is gone before the others heard of it is placed again, and only a hash
// leads it to the same server everywhere.
type firstChoice struct {
	clustered bool
	chosen    map[string]bool // services for which the statements choose otherwise
}

func newFirstChoice(clustered bool, statements []Statement) firstChoice {
	f := firstChoice{clustered, map[string]bool{}}
	if !clustered {
		return f
	}
	said := map[string]bool{}
	for i := range statements {
		s := &statements[i]
		switch s.Word.Name {
		case "hash":
			f.chosen[s.Service] = true
		case "roundrobin", "weight", "prio":
			said[s.Service+" "+s.Word.Name] = !s.No // the last one counts
		}
	}
	for i := range statements {
		s := &statements[i]
		f.chosen[s.Service] = f.chosen[s.Service] || said[s.Service+" "+s.Word.Name]
	}
	return f
}

// of is the operation for a service that comes into being; there may be none.
func (f firstChoice) of(service string) []state.Op {
	if !f.clustered || f.chosen[service] {
		return nil
	}
	return []state.Op{state.Set{Service: service, Option: state.OptHash, Value: state.Int(int(state.HashOn))}}
}

// with puts it behind each operation by which a service begins anew.
func (f firstChoice) with(ops []state.Op, exists func(service string) bool) []state.Op {
	for i := 0; i < len(ops); i++ {
		var more []state.Op
		switch op := ops[i].(type) {
		case state.AddService:
			if !exists(op.Service) {
				more = f.of(op.Service)
			}
		case state.RemoveService:
			if op.Service == state.DefaultService { // that one is never gone
				more = f.of(op.Service)
			}
		}
		ops = slices.Insert(ops, i+1, more...)
	}
	return ops
}
