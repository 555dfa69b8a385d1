package config

import (
	"fmt"
	"strconv"
)

// clusterTaskCheck looks at what comes after the words that clusterCheck leaves.
func clusterTaskCheck(s *Statement, what string) *Error {
	switch {
	case what == "log" && len(s.Args) > 1:
		if n, err := strconv.Atoi(s.Args[1].Text); err != nil || n < 1 {
			return &Error{Pos: s.at(1), What: fmt.Sprintf("cluster log %q", s.Args[1].Text), Want: "how many changes, 1 or more"}
		}
	case (what == "backup" || what == "restore") && len(s.Args) == 1:
		return &Error{Pos: s.at(0), What: "cluster " + what + " without a file", Want: "its name"}
	}
	if len(s.Args) < 3 {
		return nil
	}
	how, allowed := s.Args[2].Text, map[string]string{"backup": "clients", "remove": "force", "restore": "force"}[what]
	switch {
	case allowed == "":
		return &Error{Pos: s.at(2), What: fmt.Sprintf("%q is too much for cluster %s", how, what), Want: "the end of the line"}
	case how != allowed:
		return &Error{Pos: s.at(2), What: fmt.Sprintf("cluster %s with %q", what, how), Want: "the word " + allowed + ", or the end of the line"}
	}
	return nil
}
