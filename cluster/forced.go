package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// Bounds of what is forced and not agreed on yet.
const (
	MaxForced      = 256     // changes
	MaxForcedBytes = 1 << 20 // of all of them, as they are kept
)

// forcedName is the file of the changes that were forced.
const forcedName = "forced"

// forcedMagic is how it begins.
const forcedMagic = "penforc1"

// ErrNotAlone refuses a change that is forced where it need not or must not be.
var ErrNotAlone = errors.New("this node does not hold the address without a quorum")

// forced is the changes that were made on this node while it held the address
// without a quorum. They are on its disk and in its view, and are proposed, in
// order, when there is a leader.
//
// Each has a request's id: proposed again, after a restart or to another leader,
// it happens once, as long as the state remembers the id.
type forced struct {
	disk *disk
	path string
	log  *slog.Logger

	mu    sync.Mutex // held while the file is written
	all   atomic.Pointer[forcedList]
	watch atomic.Pointer[chan struct{}]
}

// forcedList never changes but for what it has seen.
type forcedList struct {
	commands []state.Command
	seen     atomic.Pointer[overlay]
}

// overlay is a view, and what the list makes of it.
type overlay struct{ base, view *state.View }

// openForced reads what is kept in the archive.
func openForced(a *archive, log *slog.Logger) (*forced, error) {
	f := &forced{disk: a.disk, path: filepath.Join(a.dir, forcedName), log: log}
	f.watch.Store(new(make(chan struct{})))
	f.all.Store(&forcedList{})
	b, err := a.disk.read(forcedName)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	var all []state.Command
	if err == nil {
		all, err = decodeForced(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the changes that were forced on this node can not be read: %w; without the file they are forgotten, and nothing else is", f.path, err)
	}
	f.all.Store(&forcedList{commands: all})
	if len(all) > 0 {
		log.Warn("changes that were forced on this node wait for the quorum", "changes", len(all))
	}
	return f, nil
}

// encodeForced is the file: the magic, each command with its length before it,
// and a sum of all that.
func encodeForced(all []state.Command) ([]byte, error) {
	if len(all) > MaxForced {
		return nil, fmt.Errorf("%d changes were forced already and wait for the quorum, more are not kept", MaxForced)
	}
	b := []byte(forcedMagic)
	for _, c := range all {
		at := len(b)
		var err error
		if b, err = c.Append(append(b, 0, 0, 0, 0)); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if len(b) > MaxForcedBytes {
		return nil, fmt.Errorf("the changes that were forced would be %d bytes, more than %d are not kept before there is a quorum", len(b), MaxForcedBytes)
	}
	return b, nil
}

// decodeForced reads what encodeForced has made, and nothing else.
func decodeForced(b []byte) ([]state.Command, error) {
	n := len(b) - 4
	switch {
	case len(b) > MaxForcedBytes:
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), MaxForcedBytes)
	case n < len(forcedMagic) || string(b[:len(forcedMagic)]) != forcedMagic:
		return nil, errors.New("it is no such file")
	case crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]):
		return nil, errors.New("its checksum is wrong")
	}
	var all []state.Command
	for b = b[len(forcedMagic):n]; len(b) > 0; {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return nil, errors.New("it ends within a change")
		}
		size := int(binary.BigEndian.Uint32(b))
		c, err := state.Decode(b[4 : 4+size])
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", len(all)+1, err)
		}
		if len(c.Ops) == 0 || !isRequest(c.Ops[0]) {
			return nil, fmt.Errorf("change %d has no id", len(all)+1)
		}
		if all = append(all, c); len(all) > MaxForced {
			return nil, fmt.Errorf("there are more than %d changes in it", MaxForced)
		}
		b = b[4+size:]
	}
	return all, nil
}

// commands are those that wait. The slice is not to be written to.
func (f *forced) commands() []state.Command { return f.all.Load().commands }

// add keeps one more, on the disk first.
func (f *forced) add(c state.Command) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keep(append(slices.Clip(f.commands()), c))
}

// drop forgets the first: it is part of what was agreed on, or never will be.
func (f *forced) drop() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keep(f.commands()[1:])
}

// keep is called with mu held.
func (f *forced) keep(all []state.Command) error {
	b, err := encodeForced(all)
	if err != nil {
		return err
	}
	if err := f.disk.create(f.path, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return err
	}
	f.all.Store(&forcedList{commands: all})
	close(*f.watch.Swap(new(make(chan struct{}))))
	return nil
}

// over is the view with what waits. One that does not apply is left out: when it
// is proposed that is told. Before the settings are known there is nothing to put
// it on.
func (f *forced) over(base *state.View) *state.View {
	l := f.all.Load()
	if len(l.commands) == 0 || len(base.Seed) == 0 {
		return base
	}
	if o := l.seen.Load(); o != nil && o.base == base {
		return o.view
	}
	view := base
	for _, c := range l.commands {
		if next, err := view.With(c); err == nil {
			view = next
		}
	}
	l.seen.Store(&overlay{base, view})
	return view
}

// Force makes the command part of this node's view and keeps it on its disk,
// while this node holds the address without a quorum; else it is ErrNotAlone. When
// there is a quorum again it is proposed. If the state refuses it then, it is gone,
// which the log tells. At most MaxForced are kept.
func (n *Node) Force(c state.Command) error {
	k := n.core.Load()
	if k == nil || !k.elector.isFallen() {
		return ErrNotAlone
	}
	if len(c.Ops) == 0 || !isRequest(c.Ops[0]) {
		c.Ops = append([]state.Op{state.Request{ID: state.RequestID(NewID())}}, c.Ops...)
	}
	if _, err := n.View().With(c); err != nil {
		return err
	}
	if err := n.forced.add(c); err != nil {
		return fmt.Errorf("force: %w", err)
	}
	n.log.Warn("a change was forced without a quorum", "by", c.By, "change", textOf(c), "waiting", n.Forced())
	n.tell()
	return nil
}

// Forced is how many changes were forced here and are not agreed on yet.
func (n *Node) Forced() int { return len(n.forced.commands()) }

// WatchForced returns a channel that is closed when what Forced counts changes, and
// with it perhaps the view.
func (n *Node) WatchForced() <-chan struct{} { return *n.forced.watch.Load() }

// forcedAgain is how soon a proposal that failed is made again.
const forcedAgain = 250 * time.Millisecond

// proposeForced proposes what was forced, in order, whenever there is a leader.
func (n *Node) proposeForced(ctx context.Context) {
	for {
		changed := n.Changed()
		added := n.WatchForced()
		var pause <-chan time.Time
		if len(n.forced.commands()) > 0 {
			if leader, _ := n.Leader(); leader != "" && n.proposeFirst(ctx) {
				continue
			}
			pause = time.After(forcedAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-added:
		case <-pause:
		}
	}
}

// proposeFirst proposes the first of them and reports whether it waits no more.
func (n *Node) proposeFirst(ctx context.Context) bool {
	c := n.forced.commands()[0]
	res, err := n.Propose(ctx, c)
	if err != nil {
		return false // what has become of it the state knows by its id
	}
	if err := n.forced.drop(); err != nil {
		n.log.Error("a forced change that was agreed on is still kept here", "err", err)
		return false
	}
	if res.Err != nil {
		n.log.Warn("a forced change is dropped: it does not apply any more", "by", c.By, "change", textOf(c), "err", res.Err)
	} else {
		n.log.Info("a forced change was agreed on", "by", c.By, "change", textOf(c))
	}
	n.tell()
	return true
}

// textOf is a command for the log.
func textOf(c state.Command) string {
	text := ""
	for _, o := range c.Ops {
		switch o.(type) {
		case state.Request, state.Stamp:
			continue
		}
		if text != "" {
			text += "; "
		}
		text += o.String()
	}
	return text
}
