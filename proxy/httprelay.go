package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"pen/state"
)

// Bounds of heads, and of what comes after a fault.
const (
	headTime     = 10 * time.Second // for one, all in all
	answerTime   = 10 * time.Second // for the answers that are due when a fault is found
	partingTime  = 2 * time.Second  // for the client to take the last answer
	partingBytes = 1 << 20          // of his that are thrown away meanwhile
)

// dialogue is a client's connection as requests and answers.
type dialogue struct {
	*netConn
	requests requests
	answers  *answers
}

// headsOf returns what is needed to look at heads, nil if they pass unseen.
func headsOf(set *state.Settings) *state.HTTP {
	if !set.HTTP.Heads || set.Protocol != state.TCP {
		return nil
	}
	return &set.HTTP
}

func (c *netConn) dialogue(set *state.HTTP, secure bool) *dialogue {
	x := &dialogue{netConn: c, answers: newAnswers()}
	x.requests = requests{
		src: counted{newIntake(c.side[ofClient], false), c}, forward: newForwarder(set.Forwarded, c.client, secure),
		hurry: x.hurry, expect: x.answers.expect, settled: x.answers.settled, note: c.request,
	}
	return x
}

// counted reads from the client and counts.
type counted struct {
	*intake
	c *netConn
}

func (s counted) read(most int) ([]byte, error) {
	s.most = most
	data, err := s.intake.read()
	s.c.read[ofClient].Add(uint64(len(data)))
	s.c.active.Store(int64(time.Since(origin)))
	if errors.Is(err, io.EOF) && cutOff(s.c.side[ofClient]) {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

// hurry bounds the time for a head, and the number of those that are slow.
func (x *dialogue) hurry() (over func() fault) {
	f := x.front
	most := max(1, min(handshakesMost, f.settings.Load().ConnMax/2))
	el := f.heading.enter(func() {
		x.blame(RequestCrowded)
		x.reset()
	}, most)
	_ = x.side[ofClient].SetReadDeadline(time.Now().Add(x.engine.headTime))
	return func() fault {
		if f.heading.done(el) {
			return faultCrowd
		}
		_ = x.side[ofClient].SetReadDeadline(time.Time{})
		return faultNone
	}
}

// open reads the first head. Without one that is good, no server hears of the
// client.
func (x *dialogue) open() (request, bool) {
	r, err := x.requests.head(true)
	if err == nil {
		err = x.answers.expect(r, nil)
	}
	if err != nil {
		x.stop(err)
		return r, false
	}
	return r, true
}

// relay moves requests and answers until both streams have ended, or bytes after the
// connection has turned to something else.
func (x *dialogue) relay(r request) {
	var other sync.WaitGroup
	x.requests.dst = x.side[ofServer]
	var switched bool
	other.Go(func() { switched = x.ask(r) })
	x.listen()
	other.Wait()
	if switched && (x.engine.carryOn == nil || !x.engine.carryOn(x.netConn)) {
		x.netConn.relay()
	}
}

// ask passes requests on. True: the connection carries something else now.
func (x *dialogue) ask(first request) bool {
	err := x.requests.run(first)
	if errors.Is(err, errSwitched) {
		return true
	}
	x.stop(err)
	return false
}

// stop ends the requests of a client for a reason.
func (x *dialogue) stop(err error) {
	_, unsent := errors.AsType[writeError](err)
	f, faulty := errors.AsType[fault](err)
	switch {
	case unsent:
		x.lostSide(ofServer)
		// What the server still has to say, listen delivers. It ends, because nobody is there.
	case faulty:
		x.refuse(f)
	case timedOut(err):
		x.refuse(faultTime)
	case errors.Is(err, io.EOF) && x.requests.flush() == nil:
		x.over(ofClient)
	default:
		x.lostSide(ofClient)
		x.reset()
	}
}

// refuse ends the connection of a client for a fault. If it can be an answer to what
// he has sent, and to nothing else, he is told why.
func (x *dialogue) refuse(f fault) {
	x.front.faults[f].Add(1)
	x.blame(f.cause())
	if x.engine.debug() {
		x.engine.log.LogAttrs(context.Background(), slog.LevelDebug, "request refused",
			slog.String("service", x.front.name), slog.Int("slot", x.slot), slog.Any("client", x.client), slog.String("reason", f.String()))
	}
	if f == faultTime && len(x.requests.in) == 0 {
		x.close() // he has not begun: a browser that connected in advance
		return
	}
	text := f.answer()
	if text == "" || x.requests.part || x.requests.flush() != nil || !x.answered() {
		x.reset()
		return
	}
	client := x.side[ofClient]
	_ = client.SetDeadline(time.Now().Add(partingTime))
	n, err := io.WriteString(client, text)
	x.sent.Add(uint64(n))
	if err == nil {
		if half, ok := client.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		// A close with bytes of his that nobody has read would take the answer away again.
		_, _ = io.CopyN(io.Discard, client, partingBytes)
	}
	x.close()
}

// answered waits until all answers are there. False: that does not come about, or is
// not certain.
func (x *dialogue) answered() bool {
	late := time.AfterFunc(answerTime, x.answers.lose)
	defer late.Stop()
	x.answers.settled()
	return x.answers.quiet()
}

// listen passes answers on, until they end or the connection has turned to
// something else.
func (x *dialogue) listen() {
	defer x.answers.end()
	follow := follower{answers: x.answers}
	in := newIntake(x.side[ofServer], false)
	defer in.release()
	for {
		data, err := in.read()
		if len(data) > 0 && !x.tell(data) {
			x.lostSide(ofClient)
			return // what the client still has to say, ask delivers
		}
		// Only now: whoever waits for an answer may write to the client when it is there.
		if follow.follow(data) {
			return
		}
		in.release()
		if err != nil {
			x.stopped(ofServer, err)
			return
		}
	}
}

// tell passes bytes of answers on.
func (x *dialogue) tell(data []byte) bool {
	x.read[ofServer].Add(uint64(len(data)))
	x.active.Store(int64(time.Since(origin)))
	x.account.first.CompareAndSwap(0, x.active.Load())
	n, err := writeTo(x.side[ofClient], data)
	x.sent.Add(uint64(n))
	x.active.Store(int64(time.Since(origin)))
	return err == nil
}
