package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	connectTime = 5 * time.Second
	patience    = 30 * time.Second
	maxReply    = 512 << 20 // of Ask: a status page of four million clients
)

// Client asks a control port, ours or the original's.
type Client struct {
	// Addr is a path, or HOST:PORT with an IPv6 address in brackets or, as the
	// original has it, without. A bare port is on this machine.
	Addr string
	// Patience is how long the server may be silent. Zero is 30 s. Connecting
	// has 5 s of it.
	Patience time.Duration
}

// Ask sends one command, the words with spaces between them, and returns the
// reply. Every error means that the command may not have been carried out; a
// refusal by the server is a reply like any other, see Refused.
func Ask(ctx context.Context, addr string, words ...string) ([]byte, error) {
	return Client{Addr: addr}.Ask(ctx, words...)
}

// Ask is the function Ask with the client's own patience.
func (c Client) Ask(ctx context.Context, words ...string) ([]byte, error) {
	reply := limited{max: maxReply}
	err := c.Copy(ctx, &reply, words...)
	return reply.buf.Bytes(), err
}

// limited is a buffer that does not take everything.
type limited struct {
	buf bytes.Buffer
	max int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.buf.Len()+len(b) > l.max {
		return 0, fmt.Errorf("longer than %d bytes", l.max)
	}
	return l.buf.Write(b)
}

// Copy is Ask for replies of any length: they go to w as they come.
func (c Client) Copy(ctx context.Context, w io.Writer, words ...string) error {
	line := strings.Join(words, " ")
	switch {
	case strings.ContainsFunc(line, func(r rune) bool { return r < 0x80 && ends(byte(r)) }):
		return errors.New("a command is one line")
	case len(line) > MaxLine:
		return errors.New("Overlong argument list") //nolint:staticcheck // the original's words
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err = c.converse(conn, line, w)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c Client) patience() time.Duration {
	if c.Patience > 0 {
		return c.Patience
	}
	return patience
}

// connect has the original's words for what can go wrong.
func (c Client) connect(ctx context.Context) (net.Conn, error) {
	network, addr, err := dialable(c.Addr)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: min(connectTime, c.patience())}
	conn, err := dialer.DialContext(ctx, network, addr)
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return nil, fmt.Errorf("getaddrinfo: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("error connecting to server: %w", err)
	}
	return conn, nil
}

// dialable turns the forms of an address into package net's.
func dialable(text string) (network, addr string, err error) {
	if strings.Contains(text, "/") {
		return "unix", text, nil
	}
	host, port, err := split(text)
	if err != nil {
		return "", "", err
	}
	if host == "" {
		// A word that is no number is rather a forgotten address than a
		// service of this machine.
		if strings.Trim(port, "0123456789") != "" || port == "" {
			return "", "", errNoPort
		}
		host = "localhost"
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// converse sends the line and copies the reply, as long as something happens.
func (c Client) converse(conn net.Conn, line string, w io.Writer) error {
	conn.SetDeadline(time.Now().Add(c.patience()))
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return fmt.Errorf("send command: %w", err)
	}
	buf := make([]byte, pieceSize)
	for {
		conn.SetDeadline(time.Now().Add(c.patience()))
		n, err := conn.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("write reply: %w", err)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("no reply from %s within %v", c.Addr, c.patience())
		default:
			return fmt.Errorf("read reply: %w", err)
		}
	}
}
