//go:build linux

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// certificate writes a certificate that signs itself, with its key, into a file.
func certificate(t *testing.T) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	file = filepath.Join(t.TempDir(), "shop.pem")
	must(t, os.WriteFile(file, text, 0o600))
	return file
}

// visitTLS lets openssl fetch a page through the address, with the session in a file
// if there is one, and keep the new one there. It tells whether the session was resumed.
func (s *suite) visitTLS(t *testing.T, port int, version, session string) (resumed bool) {
	t.Helper()
	in := ""
	if _, err := os.Stat(session); err == nil {
		in = "-sess_in " + session
	}
	text := ""
	if !rig.Eventually(rig.Patience, func() bool {
		text, _ = s.RunClient(t.Context(), "sh", "-c", fmt.Sprintf(
			`printf 'GET / HTTP/1.0\r\n\r\n' | timeout 10 openssl s_client -connect %s:%d -%s %s -sess_out %s -ign_eof 2>&1`,
			lab.VIP, port, version, in, session))
		return strings.Contains(text, "200 OK")
	}) {
		t.Fatalf("openssl got no page:\n%s", text)
	}
	return strings.Contains(text, "\nReused, TLS")
}

// A session of TLS is resumed by the node that takes over when the holder is killed:
// it has the keys of the tickets.
func TestSessionsAfterAFailover(t *testing.T) {
	const port = 443
	versions := []string{"tls1_2", "tls1_3"}
	s := prepare(t)
	tls := []string{"service tls", "ssl_certificate " + certificate(t), fmt.Sprintf("listen %d", port)}
	for i, v := range s.Servers {
		tls = append(tls, fmt.Sprintf("server %d address %s port %d", i, v.Addr, lab.Port))
	}
	var err error
	s.Cluster, err = s.NewCluster(rig.Bin(t), tls...)
	must(t, err)
	must(t, s.Start(s.Nodes...))
	s.well(t)
	for _, n := range s.Nodes {
		if !rig.Eventually(2*time.Minute, func() bool { // it is looked for once a minute, and in the beginning more often
			return strings.Contains(s.Pen(n).Log(), "new key for session tickets")
		}) {
			t.Fatalf("%s has no key for tickets", n.Name)
		}
	}

	dir := t.TempDir()
	for _, v := range versions {
		if s.visitTLS(t, port, v, filepath.Join(dir, v)) {
			t.Errorf("%s: resumed what never was", v)
		}
		if !s.visitTLS(t, port, v, filepath.Join(dir, v)) {
			t.Errorf("%s: not resumed by the node that gave the ticket", v)
		}
	}
	before := s.holder(t)
	s.Pen(before).Signal(syscall.SIGKILL)
	for _, v := range versions {
		if !s.visitTLS(t, port, v, filepath.Join(dir, v)) {
			t.Errorf("%s: not resumed after the failover", v)
		}
	}
	if after := s.holder(t); after == before {
		t.Errorf("%s still holds the address", after.Name)
	}
}
