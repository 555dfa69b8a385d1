//go:build linux

package process

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

// selfSigned makes a certificate for localhost with its key, in one PEM text.
func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// sclient is openssl's client, which ends when the server does.
func sclient(t *testing.T, at string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"s_client", "-ign_eof", "-connect", at}, args...)...)
	cmd.Stdin = strings.NewReader("hello\nclose\n")
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func TestTLSWithOpenSSL(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	cert := rig.WriteFile(t, d.dir, "cert.pem", selfSigned(t))
	d.start("-F", rig.WriteFile(t, d.dir, "conf", "blacklist 0\n"), "-E", cert, "{listen}", "{a}")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		session := filepath.Join(d.dir, "session"+version)
		got := sclient(t, d.block.Listen(), version, "-CAfile", cert, "-alpn", "h2", "-sess_out", session)
		contains(t, version, got, "Verification: OK", "New, TLSv1", "No ALPN negotiated", "closed")
		contains(t, version+" again", sclient(t, d.block.Listen(), version, "-sess_in", session), "Reused, TLSv1")
	}
	if got := sclient(t, d.block.Listen(), "-tls1_1"); !strings.Contains(got, "alert") && !strings.Contains(got, "no protocols") {
		t.Errorf("TLS 1.1: %s", got)
	}
	if got := d.ask("write " + filepath.Join(d.dir, "saved")); got != "" {
		t.Errorf("write: %q", got)
	}
	rig.WriteFile(t, d.dir, "cert.pem", "half a file")
	if got, want := d.ask("reload"), "error: service default: certificate "+cert+": has no PEM block CERTIFICATE\n"; got != want {
		t.Errorf("reload of a bad file: got %q, want %q", got, want)
	}
	contains(t, "after a bad file", sclient(t, d.block.Listen()), "New, TLSv1")
	rig.WriteFile(t, d.dir, "cert.pem", selfSigned(t))
	if got := d.ask("reload"); got != "" {
		t.Errorf("reload: %q", got)
	}
	contains(t, "the new certificate", sclient(t, d.block.Listen(), "-CAfile", cert), "Verification: OK")
}
