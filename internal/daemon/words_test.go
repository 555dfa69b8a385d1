package daemon

import (
	"testing"

	"pen/internal/config"
)

func TestEveryWordIsAnswered(t *testing.T) {
	missing := config.Unhandled(func(name string) bool { return handlers[name] != nil })
	if len(missing) > 0 {
		t.Errorf("words that nobody answers: %v", missing)
	}
	for name := range handlers {
		if w := config.Lookup(name); w == nil || !w.NeedsHandler() && w.Kind != config.KindReplicated {
			t.Errorf("handler for %q, which needs none", name)
		}
	}
}
