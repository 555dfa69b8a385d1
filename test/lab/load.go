//go:build linux

package lab

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Load is clients who fetch as fast as they are answered.
type Load struct {
	Answered, Failed atomic.Int64
	wg               sync.WaitGroup
}

// Load begins with so many clients at a time, each a thread, until ctx ends.
func (l *Lab) Load(ctx context.Context, threads int) *Load {
	all := &Load{}
	for i := range threads {
		all.wg.Go(func() { all.run(ctx, l, i) })
	}
	return all
}

// Wait returns when the last client has ended.
func (a *Load) Wait() { a.wg.Wait() }

func (a *Load) run(ctx context.Context, l *Lab, client int) {
	runtime.LockOSThread() // stays locked: the thread ends in the clients' namespace
	if err := moveTo(netnsDir + "/" + l.clients.name); err != nil {
		a.Failed.Add(1)
		return
	}
	for ; ctx.Err() == nil; client++ {
		if _, err := fetch(client % MaxClients); err != nil {
			a.Failed.Add(1)
			time.Sleep(10 * time.Millisecond) // nobody is there: not at full speed
			continue
		}
		a.Answered.Add(1)
	}
}
