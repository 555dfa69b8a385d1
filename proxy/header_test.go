package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func endsOf(client, local string) ends {
	return ends{netip.MustParseAddrPort(client), netip.MustParseAddrPort(local)}
}

// binHeader is a header of version 2 with whatever is given.
func binHeader(command, family byte, rest string) string {
	return binMark + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

// field is one of a header's.
func field(kind byte, value string) string {
	return string([]byte{kind, byte(len(value) >> 8), byte(len(value))}) + value
}

const (
	four = "\x0a\x00\x00\x01" + "\x0a\x00\x00\x63" + "\x11\x5c" + "\x00\x50" // 10.0.0.1:4444 to 10.0.0.99:80
	six  = " \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + " \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x99" + "\x11\x5c" + "\x00\x50"
)

func TestHeadersAreRead(t *testing.T) {
	v4, v6 := endsOf("10.0.0.1:4444", "10.0.0.99:80"), endsOf("[2001:db8::1]:4444", "[2001:db8::99]:80")
	for text, want := range map[string]ends{
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\r\n":               v4,
		"PROXY TCP6 2001:db8::1 2001:db8::99 4444 80\r\n":         v6,
		"PROXY TCP6 ::ffff:10.0.0.1 ::ffff:10.0.0.99 4444 80\r\n": v4,
		"PROXY UNKNOWN\r\n":                                                                           {},
		"PROXY UNKNOWN ff:: what ever \x01 65536\r\n":                                                 {},
		"PROXY UNKNOWN" + strings.Repeat(" ", lineMost-15) + "\r\n":                                   {},
		binHeader(binProxy, binTCP4, four):                                                            v4,
		binHeader(binProxy, binUDP4, four):                                                            v4,
		binHeader(binProxy, binTCP6, six):                                                             v6,
		binHeader(binProxy, binTCP4, four+field(0xe0, "own")):                                         v4,
		binHeader(binProxy, binTCP4, four+field(4, "")):                                               v4,
		binHeader(binProxy, binUnspec, ""):                                                            {},
		binHeader(binProxy, binUnspec, field(fieldAuthority, "a")):                                    {},
		binHeader(binProxy, binStream, strings.Repeat("\x00", binUnix)):                               {},
		binHeader(binLocal, binUnspec, ""):                                                            {},
		binHeader(binLocal, binTCP4, four+"what ever it says"):                                        {},
		binHeader(binLocal, 0x77, ""):                                                                 {},
		summed(four):                                                                                  v4,
		binHeader(binProxy, binTCP4, four+field(4, strings.Repeat("x", binMost-binHead-len(four)-3))): v4,
	} {
		const data = "PROXY data \r\n"
		got, size, err := parseHeader([]byte(text + data))
		if err != nil || size != len(text) || got != want {
			t.Errorf("%q: got %v, %d bytes, %v; want %v and %d", text, got, size, err, want, len(text))
		}
		for n := range len(text) {
			if got, size, err := parseHeader([]byte(text[:n])); err != nil || size != 0 || got != (ends{}) {
				t.Fatalf("%q, cut off: got %v, %d, %v; want that more is needed", text[:n], got, size, err)
			}
		}
	}
}

// summed is a header of version 2 with a checksum.
func summed(addresses string) string {
	b := []byte(binHeader(binProxy, binTCP4, addresses+field(fieldSum, "\x00\x00\x00\x00")))
	binary.BigEndian.PutUint32(b[len(b)-4:], sumWithout(b, len(b)-4))
	return string(b)
}

func TestBadHeadersAreRefused(t *testing.T) {
	wrong := []byte(summed(four))
	wrong[len(wrong)-1] ^= 1
	for text, want := range map[string]error{
		"GET / HTTP/1.0\r\n\r\n": errNoHeader,
		"PROXX":                  errNoHeader,
		"proxy TCP4":             errNoHeader,
		"\r\n\r\n\x01":           errNoHeader,
		"\x16\x03\x01":           errNoHeader,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\n": errHeaderBad,
		"PROXY \n":           errHeaderBad,
		"PROXY \r\n":         errHeaderBad,
		"PROXY UNKNOWNS\r\n": errHeaderBad,
		"PROXY TCP5 10.0.0.1 10.0.0.99 4444 80\r\n":                   errHeaderBad,
		"PROXY  TCP4 10.0.0.1 10.0.0.99 4444 80\r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.0.1  10.0.0.99 4444 80\r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444\r\n":                      errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 80 \r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\r\r\n":                 errHeaderBad,
		"PROXY TCP4 10.0.0.01 10.0.0.99 4444 80\r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.1 10.0.0.99 4444 80\r\n":                     errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 04444 80\r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 +4444 80\r\n":                  errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 65536\r\n":                errHeaderBad,
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 -1\r\n":                   errHeaderBad,
		"PROXY TCP4 2001:db8::1 2001:db8::99 4444 80\r\n":             errHeaderBad,
		"PROXY TCP6 10.0.0.1 10.0.0.99 4444 80\r\n":                   errHeaderBad,
		"PROXY TCP6 fe80::1%eth0 2001:db8::99 4444 80\r\n":            errHeaderBad,
		"PROXY UNKNOWN" + strings.Repeat(" ", lineMost):               errHeaderLong,
		binHeader(0x11, binTCP4, four):                                errHeaderBad,
		binHeader(0x22, binTCP4, four):                                errHeaderBad,
		binHeader(binProxy, 0x41, four):                               errHeaderBad,
		binHeader(binProxy, binTCP4, four[:11]):                       errHeaderBad,
		binHeader(binProxy, binTCP6, four):                            errHeaderBad,
		binHeader(binProxy, binStream, four):                          errHeaderBad,
		binHeader(binProxy, binTCP4, four+"\x01"):                     errHeaderBad,
		binHeader(binProxy, binTCP4, four+"\x01\x00\x02a"):            errHeaderBad,
		binHeader(binProxy, binTCP4, four+field(fieldSum, "\x00")):    errHeaderBad,
		binHeader(binProxy, binTCP4, strings.Repeat("x", binMost-15)): errHeaderLong,
		string(wrong): errHeaderSum,
	} {
		if e, size, err := parseHeader([]byte(text)); !errors.Is(err, want) || size != 0 || e != (ends{}) {
			t.Errorf("%q: got %v, %d, %v; want %v", text, e, size, err, want)
		}
	}
}

func TestHeadersAreWritten(t *testing.T) {
	for _, c := range []struct {
		ends
		line, binary string
	}{
		{endsOf("10.0.0.1:4444", "10.0.0.99:80"), "PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\r\n", binHeader(binProxy, binTCP4, four)},
		{endsOf("[::ffff:10.0.0.1]:4444", "[::ffff:10.0.0.99]:80"), "PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\r\n", binHeader(binProxy, binTCP4, four)},
		{endsOf("[2001:db8::1]:4444", "[2001:db8::99]:80"), "PROXY TCP6 2001:db8::1 2001:db8::99 4444 80\r\n", binHeader(binProxy, binTCP6, six)},
		{endsOf("[fe80::1%lo]:1", "[fe80::2%lo]:2"), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n", ""},
		{endsOf("10.0.0.1:4444", "[2001:db8::99]:80"), "PROXY TCP6 ::ffff:10.0.0.1 2001:db8::99 4444 80\r\n", ""},
		{ends{}, "PROXY UNKNOWN\r\n", binHeader(binLocal, binUnspec, "")},
	} {
		if got := string(appendLine([]byte("x"), c.ends)); got != "x"+c.line {
			t.Errorf("%v: got %q, want %q", c.ends, got, c.line)
		}
		if got := string(appendBinary([]byte("x"), c.ends, nil)); c.binary != "" && got != "x"+c.binary {
			t.Errorf("%v: got %q, want %q", c.ends, got, c.binary)
		}
	}
	longest := endsOf("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
	if n := len(appendLine(nil, longest)); n > lineMost {
		t.Errorf("a line of %d bytes is longer than %d", n, lineMost)
	}
}

func TestHeadersTellOfTLS(t *testing.T) {
	s := &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "www.example.com", NegotiatedProtocol: "h2"}
	want := field(fieldALPN, "h2") + field(fieldAuthority, "www.example.com") +
		field(fieldTLS, "\x01\x00\x00\x00\x01"+field(fieldVersion, "TLSv1.3")+field(fieldCipher, "TLS_AES_128_GCM_SHA256"))
	if got := string(tlsFields(s)); got != want {
		t.Errorf("without a certificate: got %q, want %q", got, want)
	}
	s.Version, s.CipherSuite, s.ServerName, s.NegotiatedProtocol = tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "", ""
	shown := &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}}
	s.PeerCertificates, s.VerifiedChains = []*x509.Certificate{shown}, [][]*x509.Certificate{{shown}}
	for resumed, about := range map[bool]string{false: "\x07", true: "\x05"} {
		s.DidResume = resumed
		want = field(fieldTLS, about+"\x00\x00\x00\x00"+field(fieldVersion, "TLSv1.2")+field(fieldCipher, "ECDHE-RSA-AES128-GCM-SHA256")+field(fieldName, "somebody"))
		if got := string(tlsFields(s)); got != want {
			t.Errorf("with a certificate, resumed %v: got %q, want %q", resumed, got, want)
		}
	}
	shown.Subject.CommonName = strings.Repeat("x", fieldMost+1)
	b := appendBinary(nil, endsOf("10.0.0.1:1", "10.0.0.2:2"), tlsFields(s))
	if _, size, err := parseHeader(b); err != nil || size != len(b) || strings.Contains(string(b), "xxx") {
		t.Errorf("with a name that is too long: got %d of %d bytes, %v", size, len(b), err)
	}
}

// FuzzHeader: what is taken for a header is one however much of it is there, what
// follows it changes nothing, and what it says comes back from a header of ours.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 10.0.0.1 10.0.0.99 4444 80\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n", "PROXY UNKNOWN x\r\n", "PROXY ", "GET /",
		binHeader(binProxy, binTCP4, four), binHeader(binProxy, binTCP6, six+field(fieldAuthority, "a")), binHeader(binLocal, 0, "abc"), summed(four),
	} {
		f.Add([]byte(s), uint(5))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint) {
		e, size, err := parseHeader(b)
		if size < 0 || size > len(b) || size > headerMost || err != nil && size != 0 {
			t.Fatalf("got %d of %d bytes, %v", size, len(b), err)
		}
		if size == 0 && err == nil && len(b) > headerMost {
			t.Fatalf("more than %d bytes are asked for", len(b))
		}
		if e.client.IsValid() != e.local.IsValid() || size == 0 && e.known() {
			t.Fatalf("half a header: %v", e)
		}
		if size == 0 {
			return
		}
		n := int(cut % uint(size))
		if _, some, err := parseHeader(b[:n]); some != 0 || err != nil {
			t.Fatalf("the first %d bytes: got %d, %v; want that more is needed", n, some, err)
		}
		if again, same, err := parseHeader(append(bytes.Clone(b[:size]), b...)); again != e || same != size || err != nil {
			t.Fatalf("with more behind it: got %v, %d, %v; want %v, %d", again, same, err, e, size)
		}
		if !e.known() {
			return
		}
		for _, ours := range [][]byte{appendLine(nil, e), appendBinary(nil, e, field2(b))} {
			if back, n, err := parseHeader(ours); back != e || n != len(ours) || err != nil {
				t.Fatalf("%q: got %v, %d, %v; want %v", ours, back, n, err, e)
			}
		}
	})
}

// field2 is a field out of anything.
func field2(b []byte) []byte { return appendField(nil, 0xe0, string(b)) }
