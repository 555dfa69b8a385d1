package daemon

import "context"

// clusterTasks are the words after `cluster` that are more than a line. They
// write their reply themselves.
var clusterTasks = map[string]func(*daemon, context.Context, question) error{
	"backup":   (*daemon).backupWord,
	"diff":     (*daemon).diffWord,
	"log":      (*daemon).logWord,
	"rehearse": (*daemon).rehearseWord,
	"restore":  (*daemon).restoreWord,
}

// word returns an argument, or nothing.
func (q question) word(i int) string {
	if i >= len(q.Args) {
		return ""
	}
	return q.Args[i].Text
}

// answerNode answers what other nodes ask, see cluster.Node.Query.
func (m *member) answerNode(ctx context.Context, what string) ([]byte, error) {
	if what == askFile {
		return m.fileSettings(ctx)
	}
	return m.prober.answer(ctx, what)
}
