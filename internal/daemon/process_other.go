//go:build !unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
)

// background is for systems with Unix processes.
func background(context.Context) error {
	return fmt.Errorf("run in the background: %w here; use -f, or install a service with -i NAME", errors.ErrUnsupported)
}

// starter reports to stderr; see the one for Unix.
type starter struct{}

func newStarter() (*starter, error) { return &starter{}, nil }

func (*starter) waited() bool { return false }

func (*starter) ready() error { return nil }

func (*starter) fail(err error) { fmt.Fprintln(os.Stderr, err) }

// raiseFiles has nothing to raise here.
func raiseFiles(int) (files, error) { return math.MaxInt, nil }

func jail(dir string) error { return fmt.Errorf("chroot %s: %w", dir, errors.ErrUnsupported) }

func (a account) become(...capability) error {
	return fmt.Errorf("run as %s: %w", a.name, errors.ErrUnsupported)
}
