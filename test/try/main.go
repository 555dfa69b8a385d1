// Try shows pen at work on one machine: three small web servers, pen in front
// of them, a few clients that come back, and a server that fails. It uses
// loopback only and ends by itself.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := try(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "try:", err)
		os.Exit(1)
	}
}

func try(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "pen-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	control := filepath.Join(dir, "control")

	var webs []*http.Server
	args := []string{"-f", "-C", control, "-u", "root", "127.0.0.1:8080"}
	if os.Getuid() != 0 {
		args = []string{"-f", "-C", control, "127.0.0.1:8080"}
	}
	for i := range 3 {
		web, addr, err := serve(fmt.Sprintf("server %d", i))
		if err != nil {
			return err
		}
		defer web.Close()
		webs, args = append(webs, web), append(args, addr)
	}

	fmt.Println("$ bin/pen", args)
	pen := exec.CommandContext(ctx, "bin/pen", args...)
	pen.Stdout, pen.Stderr = os.Stdout, os.Stderr
	pen.Cancel = func() error { return pen.Process.Signal(syscall.SIGTERM) }
	if err := pen.Start(); err != nil {
		return err
	}
	defer func() {
		pen.Process.Signal(syscall.SIGTERM)
		pen.Wait()
	}()
	if err := answers(ctx, "127.0.0.1:8080"); err != nil {
		return err
	}

	fmt.Println("\nSix clients come twice; each meets the same server again:")
	if err := visit(ctx, 6); err != nil {
		return err
	}
	fmt.Println("\nServer 1 is stopped; its clients move on, the others stay:")
	webs[1].Close()
	if err := visit(ctx, 6); err != nil {
		return err
	}
	for _, word := range []string{"servers", "recent"} {
		fmt.Println("\n$ bin/penctl", control, word)
		ask := exec.CommandContext(ctx, "bin/penctl", control, word)
		ask.Stdout, ask.Stderr = os.Stdout, os.Stderr
		if err := ask.Run(); err != nil {
			return fmt.Errorf("penctl %s: %w", word, err)
		}
	}
	return nil
}

// serve starts a web server that answers every request with its name.
func serve(name string) (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go s.Serve(l)
	return s, l.Addr().String(), nil
}

// answers waits until something listens on addr.
func answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// visit lets n clients, each with an address of its own, fetch twice.
func visit(ctx context.Context, n int) error {
	for i := range n {
		from := net.IPv4(127, 0, 0, byte(11+i))
		var got [2]string
		for j := range got {
			var err error
			if got[j], err = fetch(ctx, from); err != nil {
				return fmt.Errorf("client %s: %w", from, err)
			}
		}
		fmt.Printf("  client %s: %s, then %s\n", from, got[0], got[1])
	}
	return nil
}

func fetch(ctx context.Context, from net.IP) (string, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8080/", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
