//go:build linux

package deploy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"pen/test/rig"
)

// TestMain is also the programs that the tests need on the nodes.
func TestMain(m *testing.M) {
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 2 && args[0] == "caged":
		err = caged(args[1], args[2:])
	case len(args) == 2 && args[0] == "serve":
		err = serve(args[1])
	case len(args) == 2 && args[0] == "get":
		err = get(args[1])
	default:
		os.Exit(rig.Main(m))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers every line with its own address.
func serve(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				fmt.Fprintln(c, addr)
			}
		}()
	}
}

// get asks once and prints the answer.
func get(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(io.LimitReader(c, 4096))
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	fmt.Printf("%s", answer)
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
