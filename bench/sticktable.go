//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// fillStickTable tells haproxy, through its socket, the clients to know, and
// asks whether it knows them.
func fillStickTable(socket string, size int) error {
	const together = 200 // commands that fit one line
	for begin := 0; begin < size; begin += together {
		var commands []string
		for i := begin; i < min(begin+together, size); i++ {
			commands = append(commands, fmt.Sprintf("set table bench key %s data.server_id %d",
				clientAddr(firstKnown, uint32(i)), i%len(serverAddrs)+1))
		}
		answer, err := tell(socket, strings.Join(commands, "; "))
		if err != nil {
			return err
		}
		if text := strings.TrimSpace(answer); text != "" {
			return fmt.Errorf("haproxy answers %q", text)
		}
	}
	return checkStickTable(socket, size)
}

// checkStickTable may find one more than size: the client that tried whether
// haproxy answers.
func checkStickTable(socket string, size int) error {
	answer, err := tell(socket, "show table")
	if err != nil {
		return err
	}
	if used, err := entriesUsed(answer); err != nil || used < size {
		return fmt.Errorf("haproxy answers %q, want %d entries", strings.TrimSpace(answer), size)
	}
	return nil
}

// entriesUsed reads "# table: bench, type: ip, size:2125, used:1001".
func entriesUsed(answer string) (int, error) {
	line, _, _ := strings.Cut(answer, "\n")
	_, used, _ := strings.Cut(line, "used:")
	return strconv.Atoi(used)
}

// tell sends one line and returns what comes back.
func tell(socket, line string) (string, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(bufio.NewReader(c))
	return string(answer), err
}
