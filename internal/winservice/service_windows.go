package winservice

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// Windows takes a service that starts or stops for dead if it hears nothing for as
// long as the service has said that the next word may take.
const (
	beat     = time.Second
	patience = 10 * time.Second
)

// Run runs serve as the service that this process was started for, until it returns.
// Serve calls serving when all is open; its ctx ends when Windows stops the service or
// shuts down. A status other than 0 is shown as the service's error. The error is
// ErrNotStarted, at once, in a process that is no service.
//
// The manager has the last word, but is asked only where it may be the parent: under
// wine it lets others wait for half a minute. What svc.IsWindowsService asks for beside
// the parent's name, a session with the number 0, is not so everywhere.
func Run(serve func(ctx context.Context, serving func()) (status int)) error {
	if !managed() {
		return ErrNotStarted
	}
	err := svc.Run("", &handler{serve: serve}) // a process with one service needs no name
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return ErrNotStarted
	}
	return err
}

// managed tells whether the parent of this process has the name of the service manager.
func managed() bool {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return true // who knows; the manager does
	}
	defer func() { _ = windows.CloseHandle(all) }()
	parent := uint32(os.Getppid())
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(all, &p); err == nil; err = windows.Process32Next(all, &p) {
		if p.ProcessID == parent {
			return strings.EqualFold(windows.UTF16ToString(p.ExeFile[:]), "services.exe")
		}
	}
	return false // it is gone, which the manager never is
}

// handler answers the service manager.
type handler struct {
	serve  func(ctx context.Context, serving func()) int
	status svc.Status
	tell   chan<- svc.Status
}

// Execute is called by package svc. The arguments of a start by hand are not looked
// at: a service does the same however it is started.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, tell chan<- svc.Status) (specific bool, code uint32) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h.tell = tell
	serving, ended := make(chan struct{}), make(chan int, 1)
	go h.run(ctx, serving, ended)
	h.enter(svc.StartPending)
	alive := time.NewTicker(beat)
	defer alive.Stop()
	for {
		select {
		case status := <-ended:
			h.enter(svc.StopPending)
			return true, uint32(status)
		case <-serving:
			serving = nil
			if h.status.State == svc.StartPending {
				h.enter(svc.Running)
			}
		case <-alive.C:
			h.stillPending()
		case r := <-requests:
			if h.asked(r) {
				stop()
			}
		}
	}
}

func (h *handler) run(ctx context.Context, serving chan<- struct{}, ended chan<- int) {
	ended <- h.serve(ctx, func() { close(serving) })
}

// asked answers a request and tells whether it is to stop. There is no pause: a
// balancer that accepts nobody is one that its clients find broken.
func (h *handler) asked(r svc.ChangeRequest) (stop bool) {
	switch r.Cmd {
	case svc.Stop, svc.Shutdown:
		h.enter(svc.StopPending)
		return true
	case svc.Interrogate:
		h.tell <- h.status
	}
	return false
}

func (h *handler) enter(s svc.State) {
	h.status = svc.Status{State: s}
	switch s {
	case svc.Running:
		h.status.Accepts = svc.AcceptStop | svc.AcceptShutdown
	default:
		h.status.WaitHint = uint32(patience.Milliseconds())
	}
	h.tell <- h.status
}

// stillPending says that a start or a stop goes on: names are looked up, connections
// are drained.
func (h *handler) stillPending() {
	if h.status.State != svc.Running {
		h.status.CheckPoint++
		h.tell <- h.status
	}
}
