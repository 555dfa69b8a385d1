package daemon

import (
	"context"

	"pen/internal/config"
)

// Check looks at everything that a start with this command line would look at,
// and starts nothing. The limit of open files is the one that a start would
// have.
func Check(ctx context.Context, line *config.CommandLine) config.Report {
	limit, err := raiseFiles(0)
	if err != nil {
		limit = 0 // not checked
	}
	return config.Checker{Files: int(limit), Reserve: reservedFiles}.Check(ctx, line)
}
