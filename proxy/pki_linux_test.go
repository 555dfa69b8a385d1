package proxy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issuer is a certificate with its key, which may sign others.
type issuer struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	by   *issuer // nil: itself
}

var serial int64

// authority makes a certificate authority.
func authority(t testing.TB, name string, by *issuer) *issuer {
	return issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, by)
}

// leaf makes a certificate for a name, for servers and clients.
func (i *issuer) leaf(name string) *issuer {
	return issue(i.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, i)
}

func issue(t testing.TB, c *x509.Certificate, by *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c.SerialNumber = big.NewInt(serial)
	c.NotBefore = time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	signer := &issuer{cert: c, key: key}
	if by != nil {
		signer = by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, cert: parsed, key: key, by: by}
}

// pem is the certificate.
func (i *issuer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func (i *issuer) keyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// both is what a file with certificate and key has.
func (i *issuer) both() []byte { return append(i.pem(), i.keyPEM()...) }

// pair is for a client of package tls.
func (i *issuer) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key}
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

// file writes a file into a directory and returns its path. The file is replaced
// in one step, and its time differs from that of the one before.
func file(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if old, err := os.Stat(path); err == nil {
		later := old.ModTime().Add(time.Second)
		if err := os.Chtimes(path+".new", later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// staple is an OCSP response as far as anybody here looks at it.
func staple(t testing.TB, what string) []byte {
	t.Helper()
	b, err := asn1.Marshal(struct {
		Status asn1.Enumerated
		Bytes  []byte `asn1:"explicit,tag:0"`
	}{0, []byte(what)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
