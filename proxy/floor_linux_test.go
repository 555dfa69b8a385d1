package proxy

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// resident is the memory that the kernel has given, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// In a process of its own: others here make garbage, too.
func TestFloorIsNotTouched(t *testing.T) {
	const child = "PEN_FLOOR"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestFloorIsNotTouched$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	runtime.GC()
	before := resident(t)
	keepFloor()
	keepFloor()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NextGC < 2*floorSize || m.NextGC > 4*floorSize {
		t.Errorf("the collector runs next at %d bytes, want twice %d and what is alive", m.NextGC, floorSize)
	}
	if grown := resident(t) - before; grown > floorSize/2 {
		t.Errorf("the process has grown by %d bytes", grown)
	}
}
