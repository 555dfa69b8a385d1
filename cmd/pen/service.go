package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"pen/internal/config"
	"pen/internal/daemon"
	"pen/internal/winservice"
)

// A service of Windows lives in the folder of its program, as with the original:
// relative names of files are looked for there, since the folder in which Windows
// starts services is the system's own.
const (
	serviceFile = "pen.cfg"    // the settings of a service that was installed without words
	serviceLog  = "syslog.txt" // where messages go
	serviceMost = 8 << 20      // bytes of that file; there is an older one beside it
)

// removal is how long a service may take to stop before it is removed: as long as a
// drain may usually take.
const removal = 2 * time.Minute

// serviceWords are the words that a service with these arguments starts with.
func serviceWords(args []string) []string {
	if len(args) == 0 {
		return []string{"-F", serviceFile}
	}
	return args
}

// install installs or removes a service.
func install(ctx context.Context, what *config.Installation) int {
	err := func() error {
		if what.Remove {
			ctx, cancel := context.WithTimeout(ctx, removal)
			defer cancel()
			return winservice.Remove(ctx, what.Name)
		}
		if err := goHome(); err != nil {
			return err
		}
		if err := servable(ctx, serviceWords(what.Args), os.Stderr); err != nil {
			return fmt.Errorf("the service %s is not installed: %w", what.Name, err)
		}
		return winservice.Install(what.Name, what.Args)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return failed
	}
	return ok
}

// servable tells why a service with these words would end at once: there is nobody
// to see it when it does. What is only doubtful is reported.
func servable(ctx context.Context, words []string, out io.Writer) error {
	line, err := config.ParseArgs(words)
	if err != nil {
		return err
	}
	report := daemon.Check(ctx, line)
	if err := report.WriteText(out); err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("with the words %q, in the folder of the program, it could not start", words)
	}
	return nil
}

// goHome makes the folder of the program the current one.
func goHome() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Chdir(filepath.Dir(exe))
}

// runService runs as a service until Windows stops it, if this process is one.
func runService(args []string) (status int, err error) {
	err = winservice.Run(func(ctx context.Context, serving func()) int {
		status = serveAlone(ctx, serviceWords(args), serving)
		return status
	})
	return status, err
}

// serveAlone is serve, where nobody looks: all that it has to say goes into a file.
func serveAlone(ctx context.Context, words []string, serving func()) int {
	if err := goHome(); err != nil {
		return failed
	}
	log, err := winservice.OpenLog(serviceLog, serviceMost)
	if err != nil {
		return failed
	}
	defer func() { _ = log.Close() }() // every line was looked at
	line, err := config.ParseArgs(words)
	if err == nil {
		err = daemon.Run(ctx, daemon.Config{
			Line: line, Version: version, Stdout: log, Stderr: log, Stay: true, Serving: serving,
		})
	}
	if err != nil {
		fmt.Fprintln(log, err)
		return failed
	}
	return ok
}
