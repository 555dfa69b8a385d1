package proxy

import (
	"bytes"
	"sync"
)

// answers knows which requests of a connection have no answer yet. Of a server's
// bytes nothing is changed; but who may send what after a request with Upgrade or
// CONNECT depends on its answer, and so that must be found among the others.
type answers struct {
	mu       sync.Mutex // guards the rest
	changed  sync.Cond
	due      []request // oldest first
	lost     bool      // nobody knows any more where answers begin
	over     bool      // no more come
	switched bool      // another protocol is spoken now
}

// pipelineMost is how many requests may be without an answer before the client's next
// one has to wait.
const pipelineMost = 64

func newAnswers() *answers {
	a := &answers{}
	a.changed.L = &a.mu
	return a
}

// expect takes a request in whose answer is to come. If too many are due, those
// before it are sent with flush, and it waits.
func (a *answers) expect(r request, flush func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.due) >= pipelineMost {
		a.mu.Unlock()
		err := flush()
		a.mu.Lock()
		if err != nil {
			return err
		}
	}
	for len(a.due) >= pipelineMost && !a.over {
		a.changed.Wait()
	}
	if !a.lost {
		a.due = append(a.due, r)
	}
	return nil
}

// settled returns when all requests are answered, or it is certain that nobody will
// find out. It tells whether the last answer has switched to another protocol.
func (a *answers) settled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.due) > 0 && !a.over {
		a.changed.Wait()
	}
	return a.switched
}

// quiet tells whether nothing of an answer is on its way to the client, nor will be.
func (a *answers) quiet() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.due) == 0 && !a.lost
}

// oldest returns the request whose answer comes next.
func (a *answers) oldest() (request, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.due) == 0 {
		return request{}, false
	}
	return a.due[0], true
}

// answered takes out the oldest request.
func (a *answers) answered(switched bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = a.due[:copy(a.due, a.due[1:])]
	a.switched = switched
	a.changed.Broadcast()
}

// lose notes that the rest of what the server sends can not be told apart.
func (a *answers) lose() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost, a.due = true, nil
	a.changed.Broadcast()
}

// end notes that no more answers come.
func (a *answers) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.changed.Broadcast()
}

// follower finds the answers in what a server sends. It takes what clients take
// (RFC 9112, 2.2, 5.2 and 6.3), and where there are two readings it gives up: then
// the bytes still pass, but nothing is switched to.
type follower struct {
	*answers
	stage answerStage
	left  int64  // of a body or chunk
	line  []byte // the beginning of one that goes on in the next bytes
	size  int    // of the head or trailer up to now
	head  answerHead
}

type answerStage uint8

const (
	inHead     answerStage = iota
	inBody                 // of which left bytes are left
	atChunk                // a line with the size of a chunk comes
	inChunk                // of which left bytes are left
	afterChunk             // the line end after it
	inTrailer
	toTheEnd // nothing is known but that it ends with the connection
)

// answerHead is what matters of an answer's head.
type answerHead struct {
	status  int // 0: the status line has yet to come
	length  int64
	encoded bool // there is a Transfer-Encoding
	chunked bool // and it ends with chunked
	muddled bool // there are two readings
	last    kind // of the field before
}

// follow looks at what the server has sent. True: the connection carries another
// protocol from somewhere in it on.
func (f *follower) follow(b []byte) bool {
	for len(b) > 0 && f.stage != toTheEnd {
		if f.stage == inBody || f.stage == inChunk {
			n := min(f.left, int64(len(b)))
			b = b[n:]
			if f.left -= n; f.left > 0 {
				return false
			}
			if f.stage == inChunk {
				f.stage = afterChunk
			} else {
				f.done()
			}
			continue
		}
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if f.size += len(b) - len(rest); f.size > headMost {
			f.giveUp()
			break
		}
		if !whole {
			f.line = append(f.line, line...)
			break
		}
		b = rest
		if len(f.line) > 0 {
			f.line = append(f.line, line...)
			line, f.line = f.line, nil
		}
		if f.take(bytes.TrimSuffix(line, []byte("\r"))) {
			return true
		}
	}
	return false
}

// giveUp follows no further.
func (f *follower) giveUp() {
	f.stage, f.line = toTheEnd, nil
	f.lose()
}

// take deals with a line.
func (f *follower) take(line []byte) (switched bool) {
	switch f.stage {
	case inHead:
		return f.headLine(line)
	case atChunk:
		f.chunk(line)
	case afterChunk:
		if f.stage = atChunk; len(line) > 0 {
			f.giveUp()
		}
		f.size = 0
	case inTrailer:
		if len(line) == 0 {
			f.done()
		}
	}
	return false
}

// done is called at the end of an answer.
func (f *follower) done() {
	f.stage, f.size, f.head = inHead, 0, answerHead{}
	f.answered(false)
}

func (f *follower) chunk(line []byte) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.Trim(digits, " \t")
	size := int64(0)
	for _, c := range digits {
		d, ok := hexDigit(c)
		if !ok || size > 1<<58 {
			f.giveUp()
			return
		}
		size = size<<4 | d
	}
	f.size = 0
	switch {
	case len(digits) == 0:
		f.giveUp()
	case size == 0:
		f.stage = inTrailer
	default:
		f.stage, f.left = inChunk, size
	}
}

// headLine deals with a line of an answer's head.
func (f *follower) headLine(line []byte) (switched bool) {
	h := &f.head
	switch {
	case h.status == 0 && len(line) == 0: // before the answer
		f.size = 0
	case h.status == 0:
		if h.status = statusOf(line); h.status == 0 {
			f.giveUp()
		}
		h.length = noLength
	case len(line) == 0:
		return f.decide()
	default:
		h.field(line)
	}
	return false
}

// statusOf reads the number in a status line; 0: that is none.
func statusOf(line []byte) int {
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return 0
	}
	n := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if len(line) > 12 && line[12] != ' ' || n < 100 {
		return 0
	}
	return n
}

// field takes in a line of fields.
func (h *answerHead) field(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		h.muddled = h.muddled || h.last == lengthField || h.last == encodingField
		return
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	switch h.last = kindOf(bytes.TrimRight(name, " \t")); h.last {
	case lengthField:
		n, ok := parseLength(value)
		h.muddled = h.muddled || !ok || h.length != noLength && h.length != n
		h.length = n
	case encodingField:
		last := value[bytes.LastIndexByte(value, ',')+1:]
		h.encoded, h.chunked = true, equalFold(bytes.Trim(last, " \t"), "chunked")
	}
}

// decide is called at the end of a head. It finds out what follows.
func (f *follower) decide() (switched bool) {
	h := &f.head
	r, asked := f.oldest()
	switch {
	case !asked:
		f.giveUp()
		return false
	case h.status == 101 && r.upgrade, h.status/100 == 2 && r.method == connectMethod:
		f.stage = toTheEnd
		f.answered(true)
		return true
	case h.status == 101:
		f.giveUp()
	case h.status/100 == 1:
		f.size, f.head = 0, answerHead{}
	case r.method == headMethod || h.status == 204 || h.status == 304:
		f.done()
	case h.muddled:
		f.giveUp()
	case h.chunked:
		f.stage, f.size, h.length = atChunk, 0, noLength
	case h.encoded || h.length == noLength:
		f.giveUp()
	case h.length == 0:
		f.done()
	default:
		f.stage, f.left = inBody, h.length
	}
	return false
}
