//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Go process can not fork: it starts itself anew, with the same arguments, in
// a session of its own. The child finds a pipe and says over it how the start
// went. Until then it has the parent's terminal, working directory and
// everything else, so that notices and error messages are seen where the
// operator waits, and relative paths mean what they always do.

// starterEnv tells the child about the pipe: its descriptor and the parent's
// number, so that a variable left over from elsewhere does no harm.
const starterEnv = "PEN_STARTER"

// starterReady is what the child says when all is well. Anything else is the
// error that ended it.
const starterReady = "ready"

// background starts this program again, detached, and returns when the child
// serves; the caller then exits with 0. An error says why the child gave up; it
// is gone then. When ctx ends first, so does the child.
func background(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("run in the background: %w", err)
	}
	return detach(ctx, &exec.Cmd{Path: exe, Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
}

func detach(ctx context.Context, cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run in the background: %w", err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%d %d", starterEnv, 3, os.Getpid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("run in the background: %w", err)
	}
	said := make(chan string, 1)
	go readStarter(r, said)
	select {
	case word := <-said:
		return verdict(cmd, word)
	case <-ctx.Done():
		_ = r.SetReadDeadline(time.Now())
		<-said
		stop(cmd)
		return fmt.Errorf("run in the background: %w", context.Cause(ctx))
	}
}

// readStarter ends when the child closes the pipe, which it does also by dying.
func readStarter(r io.Reader, said chan<- string) {
	word, _ := io.ReadAll(io.LimitReader(r, 64<<10))
	said <- string(word)
}

// verdict turns what the child said into what background returns.
func verdict(cmd *exec.Cmd, word string) error {
	if word == starterReady {
		return cmd.Process.Release()
	}
	err := cmd.Wait()
	switch {
	case word != "":
		return errors.New(strings.TrimSpace(word))
	case err != nil:
		return fmt.Errorf("the background process ended before it was ready: %w", err)
	}
	return errors.New("the background process ended before it was ready")
}

// stop ends a child that nobody waits for any more.
func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // however it ended
}

// starter is the child's end, and does no harm in a process that has no parent
// waiting.
type starter struct {
	pipe *os.File // nil: nobody waits
	null *os.File // opened in time: a jail has no /dev/null
}

// newStarter is called once, early: it takes the variable out of the
// environment and keeps the pipe from the process's own children.
func newStarter() (*starter, error) {
	value, ok := os.LookupEnv(starterEnv)
	_ = os.Unsetenv(starterEnv)
	var fd, parent int
	if n, err := fmt.Sscanf(value, "%d %d", &fd, &parent); !ok || n != 2 || err != nil || parent != os.Getppid() {
		return &starter{}, nil
	}
	unix.CloseOnExec(fd)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &starter{os.NewFile(uintptr(fd), "starter"), null}, nil
}

// waited tells whether a parent waits: whether this is the background process.
func (s *starter) waited() bool { return s.pipe != nil }

// ready lets the parent go. From then on, standard input and output lead
// nowhere.
func (s *starter) ready() error {
	if s.pipe == nil {
		return nil
	}
	for fd := range 3 {
		if err := unix.Dup2(int(s.null.Fd()), fd); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	_, err := s.pipe.WriteString(starterReady)
	s.close()
	if errors.Is(err, syscall.EPIPE) {
		return nil // the parent was killed; that is its own affair
	}
	return err
}

// fail reports the error that ends the process: to the parent, which prints it,
// or on stderr. The caller then exits with 1.
func (s *starter) fail(err error) {
	if s.pipe == nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Fprint(s.pipe, err)
	s.close()
}

func (s *starter) close() {
	s.pipe.Close()
	s.null.Close()
	s.pipe, s.null = nil, nil
}
