package daemon

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pen/proxy"
)

func TestRequestLine(t *testing.T) {
	at, a, b := time.Unix(1700000000, 0), netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::1")
	for _, c := range []struct {
		r              proxy.Request
		line, datagram string
	}{
		{proxy.Request{At: at, Client: a, Server: b, Data: []byte("GET / HTTP/1.0\r\nHost")}, "10.0.0.7 1700000000 fd00::1 GET / HTTP/1.0\n", "+ 10.0.0.7 fd00::1 GET / HTTP/1.0\n"},
		{proxy.Request{At: at, Client: a, Server: b, Data: []byte("\nx")}, "10.0.0.7 1700000000 fd00::1 \n", "+ 10.0.0.7 fd00::1 \n"},
		{proxy.Request{At: at, Client: a, Server: b, Data: []byte("a\x00\x80\xff\x7f")}, "10.0.0.7 1700000000 fd00::1 a\x00..\x7f\n", "+ 10.0.0.7 fd00::1 a\x00\x80\xff\x7f\n"},
		{proxy.Request{At: at, Path: "/run/app", Data: []byte("x")}, " 1700000000 /run/app x\n", "+  /run/app x\n"},
	} {
		if got := string(appendRequest(nil, &c.r)); got != c.line {
			t.Errorf("got %q, want %q", got, c.line)
		}
		if got := string(appendDatagram(nil, &c.r)); got != c.datagram {
			t.Errorf("got %q, want %q", got, c.datagram)
		}
	}
	long := proxy.Request{At: at, Client: a, Server: a, Data: []byte(strings.Repeat("w", 2000))}
	if got := appendRequest(nil, &long); bytes.Count(got, []byte("w")) != requestText {
		t.Errorf("%q", got)
	}
	if got := appendDatagram(nil, &long); len(got) != requestPacket {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzRequestLine(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.0\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := proxy.Request{Client: netip.IPv6LinkLocalAllNodes(), Path: "/run/app", Data: data[:min(len(data), proxy.RequestMost)]}
		for _, line := range [][]byte{appendRequest(nil, &r), appendDatagram(nil, &r)} {
			if bytes.IndexByte(line, '\n') != len(line)-1 || len(line) > requestPacket {
				t.Errorf("%q of %q", line, data)
			}
		}
	})
}
