//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guardName is what the second process of pen calls itself.
const guardName = "pen-guard"

// Process is a program that runs on a node.
type Process struct {
	Pid int

	log    *os.File
	done   chan struct{}
	status int
}

// Start starts a program on the node, in the node's directory. Nothing stands
// between: Pid is the program itself. What it writes goes to a file.
func (n *Node) Start(argv ...string) (*Process, error) {
	log, err := os.CreateTemp(n.Dir, filepath.Base(argv[0])+"-*.log")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = n.Dir, log, log, environment()
	// Ctrl-C at the terminal is for the lab, which then ends its processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cell.do(cmd.Start); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s on %s: %w", argv[0], n.Name, err)
	}
	p := &Process{Pid: cmd.Process.Pid, log: log, done: make(chan struct{})}
	go p.wait(cmd)
	n.lab.keep(p)
	return p, nil
}

// environment does not depend on who runs the lab.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
}

func (p *Process) wait(cmd *exec.Cmd) {
	_ = cmd.Wait() // the status says it
	p.status = cmd.ProcessState.ExitCode()
	close(p.done)
}

// Signal sends a signal to this process and to no other.
func (p *Process) Signal(s syscall.Signal) { _ = syscall.Kill(p.Pid, s) }

// Wait returns the exit status (-1: killed), or false if the process is still
// there after d.
func (p *Process) Wait(d time.Duration) (status int, ended bool) {
	select {
	case <-p.done:
		return p.status, true
	case <-time.After(d):
	}
	select { // both may have been ready
	case <-p.done:
		return p.status, true
	default:
		return 0, false
	}
}

// Log returns the end of what the process has written, 64 KiB at most.
func (p *Process) Log() string {
	const most = 64 << 10
	size, err := p.log.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	text, _ := io.ReadAll(io.NewSectionReader(p.log, max(0, size-most), most))
	return string(text)
}

// Guard returns the child of a pen that guards its addresses; 0: there is none.
func (p *Process) Guard() (pid int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if name, _, _ := bytes.Cut(line, []byte{0}); string(name) == guardName {
				pid, _ = strconv.Atoi(field)
			}
		}
	}
	return pid
}

// Run runs a program on the node to its end and returns all that it has written.
func (n *Node) Run(ctx context.Context, argv ...string) (string, error) {
	return n.cell.run(ctx, n.Dir, argv...)
}

// run waits outside of the cell's thread: others need it.
func (c *cell) run(ctx context.Context, dir string, argv ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &out, &out, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // a child of it may keep the pipe
	if err := c.do(cmd.Start); err != nil {
		return "", fmt.Errorf("run %s in %s: %w", argv[0], c.name, err)
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("run %s in %s: %w: %s", strings.Join(argv, " "), c.name, err, bytes.TrimSpace(out.Bytes()))
	}
	return out.String(), nil
}

// CPU is the time that the process has used.
func (p *Process) CPU() (time.Duration, error) {
	var ts unix.Timespec
	// The clock of a process, as clock_getcpuclockid makes it.
	if err := unix.ClockGettime(int32(^p.Pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", p.Pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// RSS is the memory of the process that is in use, in bytes.
func (p *Process) RSS() (bytes int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Pid))
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", p.Pid, err)
	}
	return resident * int64(os.Getpagesize()), nil
}
