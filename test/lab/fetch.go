//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Fetch is one request of a client. It tells the server that has answered, and
// the node that the request went through.
func (l *Lab) Fetch(client int) (server string, node *Node, err error) {
	var answer []byte
	err = l.clients.do(func() (err error) {
		answer, err = fetch(client)
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("client %s: %w", ClientAddr(client), err)
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	name, from, ok := strings.Cut(strings.TrimSpace(body), " ")
	if !ok {
		return "", nil, fmt.Errorf("client %s: answer %q is not a server's", ClientAddr(client), answer)
	}
	for i, n := range l.Nodes {
		if host(back, firstNode+i).String() == from {
			return name, n, nil
		}
	}
	return "", nil, fmt.Errorf("client %s: %s came from %s, which is no node", ClientAddr(client), name, from)
}

func fetch(client int) ([]byte, error) {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: ClientAddr(client).AsSlice()}}
	c, err := d.Dial("tcp4", netip.AddrPortFrom(VIP, Port).String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 4096))
	if len(answer) == 0 && err == nil {
		err = errors.New("no answer, only the end")
	}
	return answer, err
}
