//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// process is a child with its children, pinned to one CPU.
type process struct {
	cmd  *exec.Cmd
	logs *os.File // what it wrote to standard output and error
}

// startProcess runs a program on one CPU. It must be called in a cell, which
// the process belongs to from then on.
func startProcess(ctx context.Context, cpu int, argv []string) (*process, error) {
	logs, err := os.CreateTemp("", "pen-bench-log-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(logs.Name()) // the open file is enough
	cmd := command(ctx, argv)
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := startOn(cpu, cmd); err != nil {
		logs.Close()
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return &process{cmd: cmd, logs: logs}, nil
}

// command is a child that leads a process group and dies with this thread, or
// when ctx ends.
func command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// startOn starts cmd with this thread moved to that CPU for the moment: a child
// inherits the affinity, and so sees one CPU from its first instruction.
func startOn(cpu int, cmd *exec.Cmd) error {
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	wanted.Set(cpu)
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// pids are the process and its descendants.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children(all[i])...)
	}
	return all
}

func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// stop asks the process to end, and after two seconds makes it.
func (p *process) stop() {
	defer p.logs.Close()
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	timer := time.AfterFunc(2*time.Second, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	_ = p.cmd.Wait()
	timer.Stop()
	_ = syscall.Kill(group, syscall.SIGKILL) // a worker that its master left behind
}

// ended tells whether the process is no more.
func (p *process) ended() bool {
	// WNOWAIT leaves it to Wait to take the exit status.
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// last are the last words of the process, for an error message.
func (p *process) last() string {
	text, _ := io.ReadAll(io.NewSectionReader(p.logs, 0, 1<<20))
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("; ")))
}

// helper is this program in one of its roles.
type helper struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	answer *json.Decoder
	role   string
}

// startHelper starts a role and gives it its job.
func startHelper(ctx context.Context, cpu int, role string, job any) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, []string{self})
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startOn(cpu, cmd); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	h := &helper{cmd: cmd, in: in, answer: json.NewDecoder(out), role: role}
	if err := json.NewEncoder(in).Encode(job); err != nil {
		h.stop()
		return nil, fmt.Errorf("give the %s its job: %w", role, err)
	}
	return h, nil
}

// read waits for the answer.
func (h *helper) read(answer any) error {
	if err := h.answer.Decode(answer); err != nil {
		return fmt.Errorf("answer of the %s: %w", h.role, err)
	}
	return nil
}

// stop ends the child and returns the CPU time it has used.
func (h *helper) stop() time.Duration {
	h.in.Close()
	_ = h.cmd.Wait()
	return h.cmd.ProcessState.UserTime() + h.cmd.ProcessState.SystemTime()
}
