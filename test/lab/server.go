//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Server is a web server. It answers every request with its name and the address
// that the request came from, which tells the node.
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
	fmt.Fprintf(w, "%s %s\n", s.Name, from)
}
