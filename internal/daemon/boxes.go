package daemon

import (
	"context"
	"fmt"
	"time"
)

// removeWord is `cluster remove NODE [force]`.
func (d *daemon) removeWord(ctx context.Context, q question) error {
	return d.member.node.Remove(ctx, d.signed(q.by), q.Args[1].Text, len(q.Args) > 2)
}

// recoverPatience is how long who asks waits for a recovery, which goes on without
// him.
const recoverPatience = 10 * time.Second

// recoverWord is `cluster recover [NAME]`. Without the cluster's name it tells what
// would be lost.
func (d *daemon) recoverWord(ctx context.Context, q question) error {
	ctx, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	name := ""
	if len(q.Args) > 1 {
		name = q.Args[1].Text
	}
	if err := d.member.node.Recover(ctx, d.signed(q.by), name); err != nil {
		return err
	}
	s := d.member.node.Status()
	fmt.Fprintf(q.w, "recovered: this node is the only member of generation %d; wipe the others (%s), then start them\n", s.Generation, wipe)
	return nil
}

const wipe = "the directory cluster in their data_dir"
