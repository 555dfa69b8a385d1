package control

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// send writes size bytes to a peer that takes a piece in each pause.
func send(size int, pause time.Duration) (n int, broken bool, took time.Duration, err error) {
	here, there := net.Pipe()
	var peer sync.WaitGroup
	peer.Go(func() {
		for piece := make([]byte, pieceSize); ; {
			time.Sleep(pause)
			if _, err := io.ReadFull(there, piece); err != nil {
				return
			}
		}
	})
	w := &writer{conn: here, broken: func() { broken = true }}
	begin := time.Now()
	n, err = w.Write(make([]byte, size))
	took = time.Since(begin)
	here.Close()
	peer.Wait()
	return n, broken, took, err
}

func TestReplyTakesItsTimeWhileThePeerTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 20 * pieceSize
		if n, broken, _, err := send(size, pieceTime-time.Second); n != size || broken || err != nil {
			t.Errorf("got %d, %v, %v", n, broken, err)
		}
	})
}

func TestReplyEndsWhenThePeerTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, broken, took, err := send(20*pieceSize, time.Hour)
		if n != 0 || !broken || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d, %v, %v", n, broken, err)
		}
		if took != pieceTime {
			t.Errorf("took %v", took)
		}
	})
}
