//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Server is a web server. It answers every request with its name and the address
// that the request came from, which tells the node; one for /forwarded with its name
// and for whom the request says that it comes.
type Server struct {
	Name string // web1
	Addr netip.Addr

	lab *Lab
	web *http.Server
}

// Start makes a stopped server answer again.
func (s *Server) Start() error {
	if s.web != nil {
		return nil
	}
	var ln net.Listener
	err := s.lab.web.do(func() (err error) {
		ln, err = net.Listen("tcp4", netip.AddrPortFrom(s.Addr, Port).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	s.web = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go s.web.Serve(ln)
	return nil
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	if s.web != nil {
		s.web.Close()
		s.web = nil
	}
}

// ServeHTTP is the answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	if r.URL.Path == "/forwarded" {
		from = strings.Join(r.Header.Values("X-Forwarded-For"), ", ")
	}
	fmt.Fprintf(w, "%s %s\n", s.Name, from)
}

// OnServers runs f on a thread of the servers' machine: sockets that it makes are
// there. f must not call it again.
func (l *Lab) OnServers(f func() error) error { return l.web.do(f) }

// RunServers runs a program on the servers' machine to its end and returns all that it
// has written.
func (l *Lab) RunServers(ctx context.Context, argv ...string) (string, error) {
	return l.web.run(ctx, l.Dir, argv...)
}
