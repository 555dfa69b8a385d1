package proxy

import (
	"bytes"
	"net/netip"
	"strconv"

	"pen/state"
)

// Heads of HTTP/1 requests (RFC 9112). What is passed on has one reading, whoever
// reads it: what some server might read otherwise is a fault, and ends the connection.

// headMost bounds a head, and what follows the last chunk of a body.
const headMost = 64 << 10

// headScan looks for the end of a head that comes in pieces.
type headScan struct {
	at   int // looked at up to here
	line int // where the present line begins
}

// find returns how long the head is that b begins with, as far as it is there; 0: it
// goes on. What may not be in a head is a fault as soon as it is there, so that
// nobody waits for the end of what is no head.
func (s *headScan) find(b []byte) (int, fault) {
	for ; s.at < len(b); s.at++ {
		switch c := b[s.at]; {
		case c >= ' ' && c != 0x7f || c == '\t':
		case c == '\n':
			return 0, faultLineEnd
		case c != '\r':
			return 0, faultControl
		case s.at+1 == len(b):
			return 0, faultNone // the other half of the line end has yet to come
		case b[s.at+1] != '\n':
			return 0, faultLineEnd
		case s.at == s.line:
			return s.at + 2, faultNone
		default:
			s.at++
			s.line = s.at + 1
		}
	}
	if len(b) >= headMost {
		return 0, faultLarge
	}
	return 0, faultNone
}

// request is what a request's head says about what follows it.
type request struct {
	length  int64 // of the body
	chunked bool
	method  verb
	upgrade bool // another protocol is offered
}

// verb is as much as there is to know of a method: which answers it has.
type verb uint8

const (
	otherMethod   verb = iota
	headMethod         // answers have no body
	connectMethod      // after a success there is no HTTP any more
)

// forwarder says what becomes of the headers that tell a server about its client.
type forwarder struct {
	mode   state.Forwarded
	client string // empty: it has no address
	proto  string
}

func newForwarder(mode state.Forwarded, client netip.Addr, secure bool) forwarder {
	w := forwarder{mode: mode, proto: "http"}
	if client.IsValid() {
		w.client = bare(client).String()
	}
	if secure {
		w.proto = "https"
	}
	return w
}

const (
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
)

// rewrite appends the head of a request to out as it goes on to the server, and
// tells what it says. The head is one that headScan has found.
func (w *forwarder) rewrite(out, head []byte) ([]byte, request, fault) {
	line, rest, _ := bytes.Cut(head, crlf)
	r := request{length: noLength}
	old, fault := r.requestLine(line)
	if fault != faultNone {
		return out, r, fault
	}
	out = append(append(out, line...), crlf...)
	var seen sightings
	for {
		line, rest, _ = bytes.Cut(rest, crlf)
		if len(line) == 0 {
			break
		}
		f, fault := fieldOf(line)
		if fault == faultNone {
			fault = r.note(f, &seen)
		}
		if fault != faultNone {
			return out, r, fault
		}
		if w.passes(f, &seen) {
			out = append(append(out, line...), crlf...)
		}
	}
	if fault := r.conclude(old, &seen); fault != faultNone {
		return out, r, fault
	}
	return append(w.tell(out, &seen), crlf...), r, faultNone
}

var crlf = []byte("\r\n")

// noLength is the length of a body of which none was said.
const noLength = -1

// requestLine reads METHOD SP TARGET SP VERSION and tells whether that is HTTP/1.0.
func (r *request) requestLine(line []byte) (old bool, f fault) {
	name, rest, ok := bytes.Cut(line, space)
	target, version, ok2 := bytes.Cut(rest, space)
	if !ok || !ok2 || !isToken(name) || len(target) == 0 || bytes.IndexByte(target, '\t') >= 0 {
		return false, faultLine
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		old = true
	default:
		if bytes.HasPrefix(version, []byte("HTTP/")) {
			return false, faultVersion
		}
		return false, faultLine
	}
	switch string(name) {
	case "HEAD":
		r.method = headMethod
	case "CONNECT":
		r.method = connectMethod
	}
	return old, faultNone
}

var space = []byte(" ")

// fieldLine is a line of a head.
type fieldLine struct {
	kind  kind
	value []byte
}

// kind is a field that matters here.
type kind uint8

const (
	otherField kind = iota
	lengthField
	encodingField
	hostField
	connectionField
	upgradeField
	settingsField // of HTTP/2, beside an offer of it
	forField
	protoField
	forTwin   // as seen by servers that know no difference between these names
	protoTwin // and those above
)

var kinds = [...]struct {
	name string
	kind kind
}{
	{"Content-Length", lengthField},
	{"Transfer-Encoding", encodingField},
	{"Host", hostField},
	{"Connection", connectionField},
	{"Upgrade", upgradeField},
	{"HTTP2-Settings", settingsField},
	{forwardedFor, forField},
	{forwardedProto, protoField},
}

// kindOf knows a field by its name.
func kindOf(name []byte) kind {
	for i := range kinds {
		if k := &kinds[i]; len(k.name) == len(name) && equalFold(name, k.name) {
			return k.kind
		}
	}
	switch {
	case sameVariable(name, forwardedFor):
		return forTwin
	case sameVariable(name, forwardedProto):
		return protoTwin
	}
	return otherField
}

// sameVariable tells whether a server that passes fields on as variables of the
// environment may take one name for the other: it has '_' for each sign that is no
// letter or digit.
func sameVariable(name []byte, other string) bool {
	if len(name) != len(other) {
		return false
	}
	for i, c := range name {
		if !isAlphanumeric(c) {
			c = '-'
		}
		if lower(c) != lower(other[i]) {
			return false
		}
	}
	return true
}

// fieldOf reads NAME ":" VALUE.
func fieldOf(line []byte) (fieldLine, fault) {
	if line[0] == ' ' || line[0] == '\t' {
		return fieldLine{}, faultFold
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isToken(name) {
		return fieldLine{}, faultField
	}
	return fieldLine{kindOf(name), bytes.Trim(value, " \t")}, faultNone
}

// sightings are what was there in a head.
type sightings struct {
	host    bool
	encoded bool
	proto   bool
	clients []byte // what X-Forwarded-For said, in one line
	listed  bool   // it was there
}

// note takes in what a field says about the request.
func (r *request) note(f fieldLine, seen *sightings) fault {
	switch f.kind {
	case lengthField:
		n, ok := parseLength(f.value)
		if r.length != noLength || !ok {
			return faultLength
		}
		r.length = n
	case encodingField:
		if seen.encoded || !equalFold(f.value, "chunked") {
			return faultEncoding
		}
		seen.encoded, r.chunked = true, true
	case hostField:
		if seen.host {
			return faultHost
		}
		seen.host = true
	case connectionField:
		// What is named here is taken away by the next proxy on the way.
		for name := range bytes.SplitSeq(f.value, []byte(",")) {
			switch kindOf(bytes.Trim(name, " \t")) {
			case lengthField, encodingField, hostField, forField, protoField, forTwin, protoTwin:
				return faultConnection
			}
		}
	case upgradeField:
		r.upgrade = r.upgrade || !offersHTTP(f.value)
	}
	return faultNone
}

// offersHTTP tells whether an offer of other protocols has one in which there would
// be requests again, of which no head is seen here.
func offersHTTP(protocols []byte) bool {
	for p := range bytes.SplitSeq(protocols, []byte(",")) {
		p, _, _ = bytes.Cut(bytes.Trim(p, " \t"), []byte("/"))
		if equalFold(p, "h2c") || equalFold(p, "h2") || equalFold(p, "HTTP") || equalFold(p, "TLS") {
			return true
		}
	}
	return false
}

// conclude looks at the fields together.
func (r *request) conclude(old bool, seen *sightings) fault {
	switch {
	case r.chunked && (old || r.length != noLength):
		return faultLength
	case r.method == connectMethod && (r.chunked || r.length > 0):
		return faultLength
	}
	r.length = max(r.length, 0)
	return faultNone
}

// passes tells whether a field goes on to the server as it is.
func (w *forwarder) passes(f fieldLine, seen *sightings) bool {
	switch f.kind {
	case upgradeField:
		return !offersHTTP(f.value) // which leaves the client with HTTP/1
	case settingsField:
		return false
	case forField:
		if w.mode == state.ForwardedAppend && len(f.value) > 0 {
			if seen.clients != nil {
				seen.clients = append(seen.clients, ", "...)
			}
			seen.clients = append(seen.clients, f.value...)
		}
		seen.listed = true
		return w.mode == state.ForwardedKeep
	case protoField:
		seen.proto = true
		return w.mode != state.ForwardedRemove
	case forTwin, protoTwin:
		return w.mode == state.ForwardedKeep
	}
	return true
}

// tell appends what the server is told about its client.
func (w *forwarder) tell(out []byte, seen *sightings) []byte {
	if w.mode == state.ForwardedRemove || !seen.proto {
		out = append(out, forwardedProto+": "+w.proto+"\r\n"...)
	}
	clients := seen.clients
	switch {
	case w.mode == state.ForwardedKeep && seen.listed:
		return out
	case w.client == "":
	case clients != nil:
		clients = append(append(clients, ", "...), w.client...)
	default:
		clients = []byte(w.client)
	}
	if clients == nil {
		return out
	}
	return append(append(append(out, forwardedFor+": "...), clients...), crlf...)
}

// trailer looks at what follows the last chunk of a body: fields, and an empty line.
// Some servers put them to those of the head, so what must not be forged there must
// not be here.
func trailer(fields []byte) fault {
	for {
		line, rest, _ := bytes.Cut(fields, crlf)
		if len(line) == 0 {
			return faultNone
		}
		f, fault := fieldOf(line)
		switch {
		case fault != faultNone:
			return fault
		case f.kind != otherField:
			return faultTrailer
		}
		fields = rest
	}
}

// parseLength reads a number of bytes: digits, and nothing else.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// isToken tells whether b is a token of RFC 9110, 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// equalFold compares without regard to case, in ASCII alone: to others a sign of
// Unicode is no letter.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}
