//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// environment is what the figures depend on besides the programs.
type environment struct {
	Command string
	Date    time.Time
	Machine string
	Private bool // samples have network namespaces of their own
}

func newEnvironment(args []string) (environment, error) {
	e := environment{
		Command: strings.Join(append([]string{"go run ./bench"}, args...), " "),
		Date:    time.Now(),
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return e, err
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return e, err
	}
	model, cpus := processor(string(info))
	e.Machine = fmt.Sprintf("%d CPUs, %s, Linux %s", cpus, model, unix.ByteSliceToString(name.Release[:]))
	c, err := newCell()
	if err != nil {
		return e, err
	}
	e.Private = c.private
	c.close()
	return e, nil
}

// processor reads the model and the number of CPUs from /proc/cpuinfo.
func processor(info string) (model string, count int) {
	model = "unknown"
	for line := range strings.Lines(info) {
		word, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(word) {
		case "processor":
			count++
		case "model name":
			model = strings.TrimSpace(value)
		}
	}
	return model, count
}

// twoCPUs are the first two that this process may use: one for the load, one for
// the proxy.
func twoCPUs() (load, proxy int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, err
	}
	var found []int
	for cpu := 0; cpu < 1024 && len(found) < 2; cpu++ {
		if set.IsSet(cpu) {
			found = append(found, cpu)
		}
	}
	if len(found) < 2 {
		return 0, 0, fmt.Errorf("needs two CPUs, one for the proxy and one for the load; this process may use %d", len(found))
	}
	return found[0], found[1], nil
}

// raiseFiles raises the limit of open files as far as it goes, for this process
// and all that it starts.
func raiseFiles() (limit uint64, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("raise the limit of open files to %d: %w", l.Max, err)
	}
	return l.Cur, nil
}
