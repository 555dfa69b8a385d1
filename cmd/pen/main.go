// Command pen is the load balancer. See pen(1).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"pen/cluster"
	"pen/internal/config"
	"pen/internal/daemon"
	"pen/internal/winservice"
	"pen/vip"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses.
const (
	ok     = 0
	failed = 1 // the start or the service failed, or --check found an error
	misuse = 2 // wrong usage
)

func main() {
	if vip.IsGuard() {
		os.Exit(vip.RunGuard())
	}
	// Whoever reads the log may go; the service stays.
	signal.Ignore(syscall.SIGPIPE)
	status, err := runService(os.Args[1:])
	if errors.Is(err, winservice.ErrNotStarted) {
		status, err = run(os.Args[1:]), nil
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run as a service:", err)
		status = failed
	}
	os.Exit(status)
}

func run(args []string) int {
	line, err := config.ParseArgs(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if _, mistakes := errors.AsType[config.Errors](err); !mistakes {
			fmt.Fprint(os.Stderr, config.Usage())
		}
		return misuse
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case line.Help:
		fmt.Print(config.Usage())
	case line.Version:
		fmt.Println("pen", version)
	case line.Genkey:
		return genkey(os.Stdout)
	case line.Release:
		return release(line)
	case line.Install != nil:
		return install(ctx, line.Install)
	case line.Completion != "":
		return complete(line.Completion)
	case line.Check:
		return check(ctx, line)
	default:
		return serve(ctx, line)
	}
	return ok
}

func serve(ctx context.Context, line *config.CommandLine) int {
	err := daemon.Run(ctx, daemon.Config{Line: line, Version: version, Stdout: os.Stdout, Stderr: os.Stderr})
	switch {
	case errors.Is(err, daemon.ErrReported):
		return failed
	case errors.Is(err, daemon.ErrNothingToDo):
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprint(os.Stderr, config.Usage())
		return misuse
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return failed
	}
	return ok
}

func check(ctx context.Context, line *config.CommandLine) int {
	report := daemon.Check(ctx, line)
	write := report.WriteText
	if line.JSON {
		write = report.WriteJSON
	}
	if err := write(os.Stdout); err != nil || !report.OK() {
		return failed
	}
	return ok
}

// genkey prints a key. A file that the shell has made for it is closed to others
// first, as the file of a key has to be.
func genkey(out *os.File) int {
	info, err := out.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		err = out.Chmod(0o600)
	}
	if err == nil {
		_, err = cluster.GenerateKey().WriteTo(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "print a key:", err)
		return failed
	}
	return ok
}

func release(line *config.CommandLine) int {
	if err := daemon.Release(line, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return failed
	}
	return ok
}

func complete(shell string) int {
	text, err := config.Complete(shell)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return misuse
	}
	fmt.Print(text)
	return ok
}
