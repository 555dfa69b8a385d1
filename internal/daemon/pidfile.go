package daemon

import (
	"fmt"
	"os"
	"strconv"
)

// pidFile names this process for scripts.
type pidFile string

// writePID writes the decimal number of the process without a line end, as the
// original does, over what an earlier process left. It is written in place: the
// user that pen has become may be allowed to write the file, but not the
// directory. Without a path there is nothing to write, or to remove.
func writePID(path string) (pidFile, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return "", fmt.Errorf("pid file: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(os.Getpid()))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("pid file: %w", err)
	}
	return pidFile(path), nil
}

// remove removes the file, unless another process has put its own number there.
// It is silent, for where the directory is not ours.
func (p pidFile) remove() {
	if p == "" {
		return
	}
	if b, err := os.ReadFile(string(p)); err == nil && string(b) == strconv.Itoa(os.Getpid()) {
		os.Remove(string(p))
	}
}
