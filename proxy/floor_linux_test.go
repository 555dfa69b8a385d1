package proxy

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
	keepFloor()
	keepFloor()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NextGC < 2*floorSize || m.NextGC > 4*floorSize {
		t.Errorf("the collector runs next at %d bytes, want twice %d and what is alive", m.NextGC, floorSize)
	}
	pages := make([]byte, floorSize/os.Getpagesize())
	if _, _, err := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&floor[0])), floorSize, uintptr(unsafe.Pointer(&pages[0]))); err != 0 {
		t.Fatal(err)
	}
	given := 0
	for _, p := range pages {
		given += int(p & 1)
	}
	if given > len(pages)/10 {
		t.Errorf("the kernel has given %d of %d pages", given, len(pages))
	}
}
