package daemon

import (
	"context"
	"errors"

	"pen/internal/config"
	"pen/state"
)

// Check looks at everything that a start with this command line would look at,
// and starts nothing.
func Check(ctx context.Context, line *config.CommandLine) config.Report {
	return config.Checker{Fits: fits}.Check(ctx, line)
}

// fits raises the limit of open files as far as the settings need and tells
// whether that is enough.
func fits(v *state.View) error {
	limit, err := raiseFiles(filesOf(v))
	if err != nil {
		return err
	}
	return limit.check(v)
}

// examine logs what is probably not meant in the settings, and returns what
// can not be.
func (d *daemon) examine(plan *config.Plan, statements []config.Statement) error {
	var errs []error
	for _, f := range (config.Checker{Fits: fits}).Examine(plan, statements) {
		if f.Severity == config.SeverityError {
			errs = append(errs, errors.New(f.String()))
		} else {
			d.log.Warn(f.String())
		}
	}
	return errors.Join(errs...)
}
