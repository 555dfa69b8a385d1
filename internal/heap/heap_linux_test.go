package heap

import (
	"fmt"
	"os"
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

func TestFloorIsNotTouched(t *testing.T) {
	runtime.GC()
	before := resident(t)
	KeepFloor()
	KeepFloor()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NextGC < 2*floorSize || m.NextGC > 3*floorSize {
		t.Errorf("the collector runs next at %d bytes, want twice %d and what is alive", m.NextGC, floorSize)
	}
	if grown := resident(t) - before; grown > floorSize/2 {
		t.Errorf("the process has grown by %d bytes", grown)
	}
}
