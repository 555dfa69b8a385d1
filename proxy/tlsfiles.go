package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Bounds of what is read.
const (
	maxPEM         = 4 << 20 // bytes of one file
	maxStaple      = 64 << 10
	maxAuthorities = 1000 // files of a directory, and certificates altogether
	maxChain       = 8
)

// sources are the files that a certificate with all that belongs to it comes from.
type sources struct {
	certificate, key string
	caFile, caPath   string
	staple           string // may be missing

	// A name's own authorities may be missing, and then these count.
	named              bool
	elseFile, elsePath string
}

// material is what was in the files.
type material struct {
	certificate tls.Certificate
	authorities *x509.CertPool // nil: the system's
	trust       [sha256.Size]byte
	doubts      []error // what was left out, and why
}

// files are the names of all files, those in a directory included.
func (s *sources) files() (all []string) {
	for _, name := range []string{s.certificate, s.key, s.caFile, s.elseFile, s.staple} {
		if name != "" {
			all = append(all, name)
		}
	}
	for _, dir := range []string{s.caPath, s.elsePath} {
		if dir == "" {
			continue
		}
		all = append(all, dir)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries[:min(len(entries), maxAuthorities)] {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all
}

// stamp is how a file looked from outside.
type stamp struct {
	name    string
	size    int64
	changed time.Time
	mode    fs.FileMode
}

// stamps tells how the files look now. Others than before means: read them again.
func (s *sources) stamps() []stamp { return stampsOf(s.files()...) }

func stampsOf(files ...string) (all []stamp) {
	for _, name := range files {
		st := stamp{name: name, size: -1}
		if info, err := os.Stat(name); err == nil {
			st = stamp{name, info.Size(), info.ModTime(), info.Mode()}
		}
		all = append(all, st)
	}
	return all
}

func sameStamps(a, b []stamp) bool {
	return slices.EqualFunc(a, b, func(a, b stamp) bool {
		return a.name == b.name && a.size == b.size && a.mode == b.mode && a.changed.Equal(b.changed)
	})
}

// load reads the files. Its errors name the file.
func (s *sources) load() (*material, error) {
	m := &material{}
	cert, err := readFile(s.certificate, maxPEM)
	if err != nil {
		return nil, err
	}
	key, from := cert, s.certificate
	if s.key != "" {
		from = s.key
		if key, err = readFile(s.key, maxPEM); err != nil {
			return nil, err
		}
	}
	if err := explain(s.certificate, cert, from, key); err != nil {
		return nil, err
	}
	if m.certificate, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", s.certificate, from, err)
	}
	if end := m.certificate.Leaf.NotAfter; time.Now().After(end) {
		m.doubts = append(m.doubts, fmt.Errorf("certificate %s: not valid since %s", s.certificate, end.Format(time.DateTime)))
	}
	authorities, err := s.authorities()
	if err != nil {
		return nil, err
	}
	m.trustIn(authorities)
	m.complete(authorities)
	if s.staple != "" {
		staple, err := readStaple(s.staple)
		if err != nil && (!s.named || !errors.Is(err, fs.ErrNotExist)) {
			m.doubts = append(m.doubts, err)
		}
		m.certificate.OCSPStaple = staple
	}
	return m, nil
}

// explain finds what is usually wrong with PEM files and says it better than the
// library.
func explain(certFile string, cert []byte, keyFile string, key []byte) error {
	if blocks(cert, "CERTIFICATE") == 0 {
		return fmt.Errorf("certificate %s: has no PEM block CERTIFICATE", certFile)
	}
	if blocks(key, "ENCRYPTED PRIVATE KEY") > 0 || bytes.Contains(key, []byte("Proc-Type: 4,ENCRYPTED")) {
		return fmt.Errorf("key %s: is encrypted, and nobody is there to ask for the password; store it without one", keyFile)
	}
	if blocks(key, "PRIVATE KEY")+blocks(key, "RSA PRIVATE KEY")+blocks(key, "EC PRIVATE KEY") == 0 {
		return fmt.Errorf("key %s: has no PEM block PRIVATE KEY", keyFile)
	}
	return nil
}

func blocks(b []byte, kind string) int { return bytes.Count(b, []byte("-----BEGIN "+kind+"-----")) }

// readFile reads a file of a bounded size. It does not wait for a pipe.
func readFile(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, pathError(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: is no plain file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, pathError(name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, pathError(name, err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("read %s: is longer than %d bytes", name, most)
	}
	return b, nil
}

func pathError(name string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// authorities reads the certificates that clients' ones may come from. None at
// all, where some are asked for, is an error.
func (s *sources) authorities() (all []*x509.Certificate, err error) {
	file, dir := s.caFile, s.caPath
	if s.named {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			file, dir = s.elseFile, s.elsePath
		}
	}
	if file != "" {
		if all, err = readAuthorities(file); err != nil {
			return nil, err
		}
	}
	if dir != "" {
		some, err := readDirectory(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(all) > maxAuthorities {
		return nil, fmt.Errorf("%d certificates of authorities, %d are the most", len(all), maxAuthorities)
	}
	return all, nil
}

// readDirectory reads every file of a directory that has certificates in it.
func readDirectory(dir string) (all []*x509.Certificate, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, pathError(dir, err)
	}
	if len(entries) > maxAuthorities {
		return nil, fmt.Errorf("read %s: has %d files, %d are the most", dir, len(entries), maxAuthorities)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			continue
		}
		some, err := readAuthorities(name)
		if err != nil && !errors.Is(err, errNoCertificates) {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read %s: no file in it has a certificate", dir)
	}
	return all, nil
}

var errNoCertificates = errors.New("has no PEM block CERTIFICATE")

func readAuthorities(name string) (all []*x509.Certificate, err error) {
	rest, err := readFile(name, maxPEM)
	if err != nil {
		return nil, err
	}
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" && b.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("authority %s: certificate %d: %w", name, len(all)+1, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("authority %s: %w", name, errNoCertificates)
	}
	return all, nil
}

func (m *material) trustIn(authorities []*x509.Certificate) {
	if len(authorities) == 0 {
		return
	}
	m.authorities = x509.NewCertPool()
	h := sha256.New()
	for _, a := range authorities {
		m.authorities.AddCert(a)
		h.Write(a.Raw)
	}
	h.Sum(m.trust[:0])
}

// complete adds to the chain of the file what is missing of it and known, up to
// but not including the root.
func (m *material) complete(authorities []*x509.Certificate) {
	last, err := x509.ParseCertificate(m.certificate.Certificate[len(m.certificate.Certificate)-1])
	for err == nil && len(m.certificate.Certificate) < maxChain && !bytes.Equal(last.RawIssuer, last.RawSubject) {
		i := slices.IndexFunc(authorities, func(a *x509.Certificate) bool {
			return bytes.Equal(a.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(a) == nil
		})
		if i < 0 || bytes.Equal(authorities[i].RawIssuer, authorities[i].RawSubject) {
			return
		}
		last = authorities[i]
		m.certificate.Certificate = append(m.certificate.Certificate, last.Raw)
	}
}

// readStaple reads an OCSP response.
func readStaple(name string) ([]byte, error) {
	b, err := readFile(name, maxStaple)
	if err != nil {
		return nil, err
	}
	if err := checkStaple(b); err != nil {
		return nil, fmt.Errorf("OCSP response %s: %w", name, err)
	}
	return b, nil
}

// checkStaple looks at the outside of an OCSP response (RFC 6960, 4.2.1): whether
// it is one, and an answer. What is in it is for the client, who can check it.
func checkStaple(b []byte) error {
	var response struct {
		Status asn1.Enumerated
		Bytes  asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(b, &response)
	switch {
	case err != nil || len(rest) > 0:
		return errors.New("is none in DER")
	case response.Status != 0:
		return fmt.Errorf("says that there is no answer, status %d", response.Status)
	}
	return nil
}
