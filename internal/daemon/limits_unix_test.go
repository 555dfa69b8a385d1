//go:build unix

package daemon

import (
	"syscall"
	"testing"
)

func TestRaiseFiles(t *testing.T) {
	var before, r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
	low := before
	set(&low.Cur, 256)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	got, err := raiseFiles(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if uint64(got) != uint64(r.Cur) || got < 256 { //nolint:unconvert // signed on FreeBSD
		t.Errorf("said %d, is %d", got, r.Cur)
	}
	if r.Cur != before.Max {
		t.Errorf("raised to %d, could be %d", r.Cur, before.Max)
	}
}

// More than the hard limit is for the privileged; the others get what there is.
func TestRaiseFilesBeyondTheHardLimit(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	hard := files(before.Max)
	got, err := raiseFiles(int(hard) + 1)
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
	if err != nil || got != hard && got != hard+1 {
		t.Errorf("got %d, %v, the hard limit was %d", got, err, hard)
	}
}
