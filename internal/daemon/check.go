package daemon

import (
	"context"
	"errors"
	"slices"

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

// examine logs what is probably not meant in the settings of a start, and
// returns what can not be.
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

// worse tells what a change would make of settings that can not be: --check and
// a start would refuse them too. What is wrong already does not stand in the way
// of a change.
func worse(now, then *state.View, local config.Local) error {
	known := mistakes(now, local)
	var errs []error
	for _, m := range mistakes(then, local) {
		if !slices.Contains(known, m) {
			errs = append(errs, errors.New(m))
		}
	}
	return errors.Join(errs...)
}

func mistakes(v *state.View, local config.Local) []string {
	var all []string
	for _, f := range (config.Checker{}).Examine(&config.Plan{View: v, Local: local}, nil) {
		if f.Severity == config.SeverityError {
			all = append(all, f.What)
		}
	}
	return all
}
