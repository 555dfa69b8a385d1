package proxy

import (
	"crypto/tls"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandshakesHaveABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h handshakes
		var cut []int
		enter := func(n int) func() bool {
			el := h.enter(func() { cut = append(cut, n) }, 2)
			return func() bool { return h.done(el) }
		}
		first, second := enter(1), enter(2)
		time.Sleep(600 * time.Millisecond)
		third, fourth := enter(3), enter(4)
		time.Sleep(399 * time.Millisecond)
		if len(cut) > 0 || h.underWay() != 4 {
			t.Errorf("cut %v: within the grace nobody has to go", cut)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !slices.Equal(cut, []int{1, 2}) || h.underWay() != 2 || h.crowded.Load() != 2 {
			t.Errorf("cut %v, want the two oldest", cut)
		}
		if !first() || !second() || third() {
			t.Error("who had to go is told, and nobody else")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(cut) != 2 || fourth() || h.underWay() != 0 {
			t.Errorf("cut %v: few have their time", cut)
		}
	})
}

func TestFileNames(t *testing.T) {
	for host, want := range map[string]string{
		"":                              "",
		"www.Example.com":               "www.example.com _.example.com",
		"example.com":                   "example.com",
		"localhost":                     "localhost",
		"a_b.example.com":               "a_b.example.com _.example.com",
		"_.example.com":                 "",
		"../x":                          "",
		"..":                            "",
		".a":                            "",
		"a..b":                          "",
		"a.":                            "",
		"a/b":                           "",
		"-a.b":                          "",
		"a\x00b":                        "",
		"näme.example.com":              "",
		"10.0.0.1":                      "10.0.0.1 _.0.0.1",
		strings.Repeat("a", 64) + ".b":  "",
		strings.Repeat("a.", 126) + "a": strings.Repeat("a.", 126) + "a _." + strings.Repeat("a.", 125) + "a",
		strings.Repeat("a.", 127) + "a": "",
	} {
		if got := strings.Join(fileNames(host), " "); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func FuzzFileNames(f *testing.F) {
	for _, seed := range []string{"www.example.com", "../../etc/passwd", "_.a.b", "a/../b", "A.B.C", "\x00", "con", "a\\b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		for _, name := range fileNames(host) {
			path := filepath.Join("/dir", name+".crt")
			if filepath.Dir(path) != "/dir" || filepath.Base(path) != name+".crt" || strings.ContainsAny(name, "/\\\x00 ") || name != strings.ToLower(name) {
				t.Errorf("%q leads to %s", host, path)
			}
		}
	})
}

func TestCipherList(t *testing.T) {
	const ecdsa128, rsa128 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	for list, want := range map[string][]uint16{
		"":                            nil,
		"ECDHE-RSA-AES128-GCM-SHA256": {rsa128},
		"ECDHE+AESGCM+AES128:!aNULL":  {ecdsa128, rsa128},
		"ECDHE+AESGCM:-AES256:!aRSA":  {ecdsa128},
		"DES-CBC3-SHA, ECDHE-ECDSA-AES128-GCM-SHA256 RC4": {ecdsa128},
		"RC4":      {},
		"RSA":      {}, // an exchange of keys that there is no more
		"!ALL":     {},
		":":        {},
		"ALL:!ALL": {},
	} {
		got, err := cipherList(list)
		if !slices.Equal(got, want) || (err != nil) != (list != "" && len(want) == 0) {
			t.Errorf("%q: got %x and %v, want %x", list, got, err, want)
		}
	}
	for _, list := range []string{"ALL", "HIGH", "DEFAULT", "HIGH:MEDIUM:!aNULL:!MD5@STRENGTH", "ECDHE"} {
		if got, err := cipherList(list); err != nil || len(got) != len(ciphers) {
			t.Errorf("%q: got %d and %v, want all %d", list, len(got), err, len(ciphers))
		}
	}
	known := map[uint16]bool{}
	for _, s := range tls.CipherSuites() {
		known[s.ID] = true
	}
	for _, c := range ciphers {
		if !known[c.id] {
			t.Errorf("%s is none of the good ones", c.name)
		}
	}
}

func FuzzCipherList(f *testing.F) {
	f.Add("ECDHE+AESGCM:!aNULL")
	f.Add("+-!:::++")
	f.Fuzz(func(t *testing.T, list string) {
		got, err := cipherList(list)
		if err == nil && list != "" && (len(got) == 0 || len(got) > len(ciphers)) {
			t.Errorf("%q: %x", list, got)
		}
	})
}

func FuzzStaple(f *testing.F) {
	f.Add([]byte("\x30\x03\x0a\x01\x06"))
	f.Add([]byte("\x30\x07\x0a\x01\x00\xa0\x02\x30\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkStaple(b) == nil && (len(b) < 5 || b[0] != 0x30) {
			t.Errorf("%x is taken for a response", b)
		}
	})
}

func TestShelfHasABound(t *testing.T) {
	var s shelf
	for i := range shelfMost + 5 {
		s.put(string(rune('a'+i%26))+strings.Repeat("x", i/26), &kept{})
		s.get("a")
	}
	if n := len(s.all()); n != shelfMost || s.order.Len() != n {
		t.Errorf("%d, want %d", n, shelfMost)
	}
	if s.get("a") == nil || s.get("b") != nil {
		t.Error("want the one used least recently to go first")
	}
}
