package daemon

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"pen/proxy"
	"pen/state"
)

// visitFormat is how a line of the access log looks.
type visitFormat struct {
	node string // of a cluster; empty: none
	json atomic.Bool
}

// visitRoom is what a line mostly needs.
const visitRoom = 768

// putVisit writes the line about a visit.
func (l *logs) putVisit(v *proxy.Visit) {
	var room [visitRoom]byte
	l.access.put(l.format.append(room[:0], v))
}

// append appends the line, with its end. A fact that is not there is left out.
func (f *visitFormat) append(b []byte, v *proxy.Visit) []byte {
	w := fields{b: b, json: f.json.Load()}
	w.open()
	w.key("time")
	w.quoted(func(b []byte) []byte { return v.Began.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z") })
	if f.node != "" {
		w.text("node", f.node)
	}
	w.text("service", v.Service)
	if v.Protocol == state.UDP {
		w.text("protocol", "udp")
	} else {
		w.text("protocol", "tcp")
	}
	w.client(v.Client)
	w.server(v)
	w.text("end", v.Cause.String())
	if v.Server != state.None {
		choice := "new"
		if v.Remembered {
			choice = "remembered"
		}
		w.text("choice", choice)
	}
	w.number("failovers", uint64(v.Failovers))
	w.seconds("connect", v.Connect)
	w.seconds("first", v.First)
	w.seconds("total", max(v.Total, 1))
	w.number("received", v.Received)
	w.number("sent", v.Sent)
	if v.TLS != nil {
		w.tls(v.TLS)
	}
	return w.close()
}

// fields writes a line of named facts, as logfmt or as a JSON object.
type fields struct {
	b    []byte
	json bool
	some bool
}

func (w *fields) open() {
	if w.json {
		w.b = append(w.b, '{')
	}
}

func (w *fields) close() []byte {
	if w.json {
		w.b = append(w.b, '}')
	}
	return append(w.b, '\n')
}

func (w *fields) key(name string) {
	switch {
	case w.json:
		if w.some {
			w.b = append(w.b, ',')
		}
		w.b = append(append(append(w.b, '"'), name...), `":`...)
	default:
		if w.some {
			w.b = append(w.b, ' ')
		}
		w.b = append(append(w.b, name...), '=')
	}
	w.some = true
}

// quoted writes what is a string in JSON and needs no quotes in logfmt.
func (w *fields) quoted(value func([]byte) []byte) {
	if w.json {
		w.b = append(w.b, '"')
	}
	w.b = value(w.b)
	if w.json {
		w.b = append(w.b, '"')
	}
}

// textMost is how much of one text is written. Some are the client's to choose.
const textMost = 300

func (w *fields) text(name, s string) {
	w.key(name)
	s = s[:min(len(s), textMost)]
	if w.json {
		w.b = appendJSON(w.b, s)
	} else {
		w.b = appendValue(w.b, s)
	}
}

func (w *fields) number(name string, n uint64) {
	w.key(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

// seconds leaves out what has not happened. Six places are microseconds.
func (w *fields) seconds(name string, d time.Duration) {
	if d == 0 {
		return
	}
	w.key(name)
	us := max(0, d.Microseconds())
	w.b = strconv.AppendInt(w.b, us/1e6, 10)
	w.b = append(w.b, '.')
	for digit := int64(1e5); digit > 0; digit /= 10 {
		w.b = append(w.b, byte('0'+us/digit%10))
	}
}

func (w *fields) address(name string, a netip.AddrPort) {
	w.key(name)
	w.quoted(a.AppendTo)
}

// client is unknown on a Unix socket.
func (w *fields) client(a netip.AddrPort) {
	if a.Addr().IsValid() {
		w.address("client", a)
	} else {
		w.text("client", "unix")
	}
}

// server is the server's place in the list, and its address.
func (w *fields) server(v *proxy.Visit) {
	switch v.Server {
	case state.None:
		return
	case state.Emergency:
		w.text("server", "emergency")
	case state.Abuse:
		w.text("server", "abuse")
	default:
		w.number("server", uint64(v.Server))
	}
	if v.Path != "" {
		w.text("backend", v.Path)
		return
	}
	w.address("backend", v.Backend)
}

func (w *fields) tls(s *proxy.Secured) {
	if s.Version == 0 {
		return // the handshake did not come that far
	}
	w.text("tls", tls.VersionName(s.Version))
	w.text("tls_cipher", tls.CipherSuiteName(s.Suite))
	if s.Name != "" {
		w.text("tls_name", s.Name)
	}
	if s.Protocol != "" {
		w.text("tls_alpn", s.Protocol)
	}
	w.key("tls_resumed")
	w.b = strconv.AppendBool(w.b, s.Resumed)
}

// appendJSON appends a text as JSON wants it, on one line whatever is in it.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f || r == utf8.RuneError || r == '\u2028' || r == '\u2029':
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
