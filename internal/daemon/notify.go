package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// What a notify program may use.
const (
	notifyTime  = 30 * time.Second // to run
	notifyLast  = 5 * time.Second  // to run when the process is about to end
	notifyLines = 100              // of its output that are logged
	notifyLine  = 512              // bytes of each of them
	// notifyPath is for its commands. The process's own path may be that of
	// whoever started it.
	notifyPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// A notifier runs the operator's program when the part of this node in the
// cluster changes: FILE STATE CLUSTER TERM. STATE is holder, standby or fault.
//
// One runs at a time, in the order of the changes. Of the changes that come
// while one runs only the newest is told: the program is told what is, and not
// what was. Nothing waits for it.
//
// The program gets its arguments as they are, without a shell; the environment
// PATH, PEN_CLUSTER, PEN_NODE, PEN_STATE and PEN_TERM and nothing else; an empty
// standard input; no other descriptors, and no capabilities but root's own. It
// runs as the process's user, in its working directory and in its chroot. After
// 30 seconds it is killed, with all that is in its process group; after 5 when
// the process ends.
type notifier struct {
	file, cluster, node string
	log                 *slog.Logger
	limit, last         time.Duration // notifyTime, notifyLast
	null                *os.File      // opened in time: a jail has no /dev/null

	kick chan struct{} // room for one

	mu   sync.Mutex // guards what is below
	next *change    // nil: nothing waits
}

// A change is what the program is told.
type change struct {
	state string
	term  uint64
}

// newNotifier is for the program file on a node of that name. It comes before
// chroot. An empty file is fine, and nothing is ever run.
func newNotifier(file, cluster, node string, log *slog.Logger) (*notifier, error) {
	n := &notifier{file: file, cluster: cluster, node: node, log: log, limit: notifyTime, last: notifyLast, kick: make(chan struct{}, 1)}
	if file == "" {
		return n, nil
	}
	var err error
	if n.null, err = os.Open(os.DevNull); err != nil {
		return nil, fmt.Errorf("notify %s: %w", file, err)
	}
	return n, nil
}

// tell says what this node is now. It never waits.
func (n *notifier) tell(state string, term uint64) {
	n.mu.Lock()
	n.next = &change{state, term}
	n.mu.Unlock()
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

func (n *notifier) take() (change, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		return change{}, false
	}
	c := *n.next
	n.next = nil
	return c, true
}

// run runs the programs until ctx ends. What was told before that is still
// told: the last change is the end of the service on this node.
func (n *notifier) run(ctx context.Context) error {
	if n.file == "" {
		<-ctx.Done()
		return nil
	}
	defer n.null.Close()
	if err := disinherit(); err != nil {
		return err
	}
	for ended := false; !ended; {
		select {
		case <-n.kick:
		case <-ctx.Done():
			ended = true
		}
		if c, ok := n.take(); ok {
			n.notify(ctx, c)
		}
	}
	return nil
}

// notify runs the program once, to its end. When the process is about to end it
// waits less, but it does wait.
func (n *notifier) notify(parent context.Context, c change) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), n.limit)
	defer cancel()
	stop := context.AfterFunc(parent, func() { time.AfterFunc(n.last, cancel) })
	defer stop()
	out := &lines{log: n.log, state: c.state}
	began := time.Now()
	err := n.command(ctx, c, out).Run()
	out.end()
	took := time.Since(began).Round(time.Millisecond)
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		// It has ended well, and left something behind that keeps its output open.
		n.log.Info("notified", "program", n.file, "state", c.state, "term", c.term, "took", took)
	case ctx.Err() != nil:
		n.log.Error("notify program killed: it ran for too long", "program", n.file, "state", c.state, "term", c.term, "took", took)
	case err != nil:
		n.log.Error("notify program", "program", n.file, "state", c.state, "term", c.term, "err", err)
	default:
		n.log.Info("notified", "program", n.file, "state", c.state, "term", c.term, "took", took)
	}
}

func (n *notifier) command(ctx context.Context, c change, out *lines) *exec.Cmd {
	term := strconv.FormatUint(c.term, 10)
	cmd := exec.CommandContext(ctx, n.file, c.state, n.cluster, term)
	// A name without a slash would be looked for in the path; this is a file.
	cmd.Path, cmd.Err = n.file, nil
	cmd.Env = []string{
		"PATH=" + notifyPath, "PEN_CLUSTER=" + n.cluster, "PEN_NODE=" + n.node, "PEN_STATE=" + c.state, "PEN_TERM=" + term,
	}
	cmd.Stdin = n.null
	cmd.Stdout, cmd.Stderr = out, out // the same: one writer
	group(cmd)
	// Its children may hold its output open after its end.
	cmd.WaitDelay = time.Second
	return cmd
}

// lines logs what a program says, line by line, up to a bound.
type lines struct {
	log   *slog.Logger
	state string
	rest  []byte // of the last line
	count int
}

func (l *lines) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		whole := line[len(line)-1] == '\n'
		if room := notifyLine - len(l.rest); room > 0 {
			l.rest = append(l.rest, line[:min(len(line), room)]...)
		}
		if whole {
			l.end()
		}
	}
	return len(b), nil
}

// end logs the line that is there.
func (l *lines) end() {
	line := bytes.TrimRight(l.rest, "\r\n")
	l.rest = l.rest[:0]
	if len(line) == 0 {
		return
	}
	l.count++
	switch {
	case l.count <= notifyLines:
		l.log.Info("notify program says", "state", l.state, "line", string(line))
	case l.count == notifyLines+1:
		l.log.Warn("notify program says more, which is not logged", "state", l.state, "lines", notifyLines)
	}
}

// checkNotify tells why this process could not run the program.
func checkNotify(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("notify %s: not a program, but %v", file, info.Mode().Type())
	}
	if err := executable(file); err != nil {
		return fmt.Errorf("notify %s: may not be run (chmod a+x): %w", file, err)
	}
	return nil
}
