//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage is what processes hold.
type usage struct {
	RSS   int // KiB
	Files int
}

// usageOf adds up what the processes hold.
func usageOf(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		// smaps_rollup is counted page by page; the figure of /proc/PID/status may
		// be off by more than three thousand connections of ours take.
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return usage{}, err
		}
		kib, err := rollupRSS(string(text))
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return usage{}, err
		}
		sum.RSS += kib
		sum.Files += len(files)
	}
	return sum, nil
}

// rollupRSS finds the line "Rss:  123 kB".
func rollupRSS(text string) (int, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		}
	}
	return 0, fmt.Errorf("smaps_rollup: no line Rss")
}
