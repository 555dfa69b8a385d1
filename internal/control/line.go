package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// pensive is how long a peer must have been silent, when its time is over, for
// an unterminated command to count as whole.
const pensive = time.Second

var (
	errSilent     = errors.New("nothing sent")
	errUnfinished = fmt.Errorf("command not finished within %v", lineTime)
	errLong       = fmt.Errorf("command longer than %d bytes", MaxLine)
	errFull       = fmt.Errorf("all %d control connections are busy", MaxPeers)
)

// readLine reads one command. It ends at the first CR, LF or NUL, or with the
// stream; what follows is not looked at. The original did a single read and
// needed no terminator, so scripts exist that send none and wait for the
// answer: when the time is over, what has come is the command, unless the last
// of it came just now and more may be on its way.
func readLine(c net.Conn) (string, error) {
	begin := time.Now()
	if err := c.SetReadDeadline(begin.Add(lineTime)); err != nil {
		return "", err
	}
	var (
		buf  = make([]byte, MaxLine+1)
		n    int
		last = begin
	)
	for {
		m, err := c.Read(buf[n:])
		if i := slices.IndexFunc(buf[n:n+m], ends); i >= 0 {
			return string(buf[:n+i]), nil
		}
		if m > 0 {
			n, last = n+m, time.Now()
		}
		switch {
		case n > MaxLine:
			return "", errLong
		case err == nil:
		case errors.Is(err, io.EOF):
			return string(buf[:n]), nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return "", err
		case n == 0:
			return "", errSilent
		case time.Since(last) < pensive:
			return "", errUnfinished
		default:
			return string(buf[:n]), nil
		}
	}
}

func ends(b byte) bool { return b == '\n' || b == '\r' || b == 0 }
