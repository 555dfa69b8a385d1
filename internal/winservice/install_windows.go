package winservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// Install makes a service of this program. It starts with the machine, as
// LocalSystem, with those arguments; it is not started now.
func Install(name string, args []string) error {
	return manage("install", name, func(m *mgr.Mgr) error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		s, err := m.CreateService(name, exe, mgr.Config{
			StartType:   mgr.StartAutomatic,
			DisplayName: name,
			Description: "pen, a load balancer that sends a returning client to the server it had before",
		}, args...)
		if errors.Is(err, windows.ERROR_SERVICE_EXISTS) {
			return fmt.Errorf("there is one already; remove it first: pen -u %s", name)
		}
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// Remove stops a service, waits for its end and takes it away. When ctx ends first
// the service is still there, and is asked to stop.
func Remove(ctx context.Context, name string) error {
	return manage("remove", name, func(m *mgr.Mgr) error {
		s, err := m.OpenService(name)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := stop(ctx, s); err != nil {
			return err
		}
		return s.Delete()
	})
}

// manage does something with the service manager.
func manage(what, name string, do func(*mgr.Mgr) error) error {
	m, err := mgr.Connect()
	if err == nil {
		defer func() { _ = m.Disconnect() }()
		err = do(m)
	}
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		err = fmt.Errorf("%w; this is for an administrator", err)
	}
	if err != nil {
		return fmt.Errorf("%s the service %s: %w", what, name, err)
	}
	return nil
}

// stop asks a service to stop and waits for it.
func stop(ctx context.Context, s *mgr.Service) error {
	status, err := s.Query()
	if err == nil && status.State == svc.Running {
		status, err = s.Control(svc.Stop)
	}
	for err == nil && status.State != svc.Stopped {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for its end: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond): // the manager tells nobody
		}
		status, err = s.Query()
	}
	if errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return nil // it has ended meanwhile
	}
	return err
}
