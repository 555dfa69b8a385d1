package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// terminator ends the TLS of a service's clients. It has the certificates, which
// it reads again when their files have changed.
type terminator struct {
	service string
	log     *slog.Logger
	set     state.TLS
	config  *tls.Config // which asks for the credential of each client
	keys    *ticketRing

	main  *kept // the certificate for everybody; nil: none could be had
	names shelf
}

// errNoMaterial ends the handshakes of a service whose certificate can not be had.
var errNoMaterial = errors.New("no certificate")

// newTerminator reads the files that the settings name. With an error nothing of
// it is of use.
func newTerminator(log *slog.Logger, s *state.Service, keys *ticketRing) (*terminator, error) {
	t := hollow(log, s, keys)
	if s.TLS.Certificate == "" {
		return nil, errors.New("ssl_certificate is not set")
	}
	if _, err := cipherList(s.TLS.Ciphers); err != nil {
		return nil, fmt.Errorf("ssl_ciphers: %w", err)
	}
	if dir := s.TLS.SNIPath; dir != "" {
		if err := isDirectory(dir); err != nil {
			return nil, fmt.Errorf("ssl_sni_path: %w", err)
		}
	}
	main := &kept{sources: sources{
		certificate: s.TLS.Certificate, key: s.TLS.Key, caFile: s.TLS.CAFile, caPath: s.TLS.CAPath, staple: s.TLS.OCSP,
	}}
	if err := main.first(t, ""); err != nil {
		return nil, err
	}
	t.main = main
	return t, nil
}

// hollow is a terminator that turns everybody away: a service that shall talk TLS
// does not fall back to plain text.
func hollow(log *slog.Logger, s *state.Service, keys *ticketRing) *terminator {
	t := &terminator{service: s.Name, log: log, set: s.TLS, keys: keys}
	t.config = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: t.choose}
	return t
}

// choose finds the credential for a client who has said hello.
func (t *terminator) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if t.main == nil {
		return nil, errNoMaterial
	}
	if t.set.SNIPath != "" {
		for _, name := range fileNames(hello.ServerName) {
			c, err := t.named(name)
			if err != nil {
				return nil, err
			}
			if c != nil {
				return c.ready(t.keys), nil
			}
		}
	}
	return t.main.get(t, "").ready(t.keys), nil
}

// credential is a certificate ready for use.
type credential struct {
	config *tls.Config
	stamps []stamp
	leaf   []byte
	keys   atomic.Uint64 // version of the ticket keys it has
}

// ready returns the configuration, with the present keys of session tickets.
func (c *credential) ready(ring *ticketRing) *tls.Config {
	if keys := ring.now.Load(); keys != nil && c.keys.Swap(keys.version) != keys.version {
		c.config.SetSessionTicketKeys(keys.keys)
	}
	return c.config
}

// credential makes material ready for use. The name is that of its files in the
// directory of names; empty: it is for everybody.
func (t *terminator) credential(m *material, name string) *credential {
	suites, _ := cipherList(t.set.Ciphers) // looked at before
	cfg := &tls.Config{
		Certificates: []tls.Certificate{m.certificate},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		ClientCAs:    m.authorities,
	}
	switch t.set.Versions {
	case state.TLSNot12:
		cfg.MinVersion = tls.VersionTLS13
	case state.TLSNot13:
		cfg.MaxVersion = tls.VersionTLS12
	}
	switch t.set.Client {
	case state.ClientCertificateRequest:
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	case state.ClientCertificateRequired:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	// A ticket counts where it was given: for the same service, name and trust.
	scope := sha256.Sum256(fmt.Appendf(nil, "pen ticket %q %q %d %x", t.service, name, t.set.Client, m.trust))
	cfg.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, scope[:])
		return cfg.EncryptTicket(cs, ss)
	}
	cfg.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := cfg.DecryptTicket(identity, cs)
		if err != nil || ss == nil || !slices.ContainsFunc(ss.Extra, func(b []byte) bool { return string(b) == string(scope[:]) }) {
			return nil, err
		}
		return ss, nil
	}
	return &credential{config: cfg, leaf: m.certificate.Certificate[0]}
}

// lookEvery is how often files are looked at, at most.
const lookEvery = time.Second

// kept is a credential and the files it comes from.
type kept struct {
	sources sources
	now     atomic.Pointer[credential]
	gone    atomic.Bool // the certificate of a name was taken away

	mu     sync.Mutex // held by the one who looks at the files
	looked time.Time
	bad    []stamp // of files that were no good
}

// first reads the files for the first time.
func (k *kept) first(t *terminator, name string) error {
	k.looked = time.Now()
	stamps := k.sources.stamps()
	m, err := k.sources.load()
	if err != nil {
		return err
	}
	t.doubt(m.doubts)
	if t.set.Client != state.ClientCertificateOff && m.authorities == nil {
		t.log.Warn("no authority is named for clients' certificates: those that this system trusts count", "service", t.service)
	}
	c := t.credential(m, name)
	c.stamps = stamps
	k.now.Store(c)
	return nil
}

// get returns the credential as the files are now, or were a second ago. What is
// no good changes nothing. Only one handshake at a time looks, the others do not
// wait for it.
func (k *kept) get(t *terminator, name string) *credential {
	if !k.mu.TryLock() {
		return k.now.Load()
	}
	defer k.mu.Unlock()
	c := k.now.Load()
	if now := time.Now(); now.Sub(k.looked) >= lookEvery {
		k.looked = now
		if err := k.look(t, name); err != nil {
			t.log.Warn("a changed certificate is no good: the one before stays in use", "service", t.service, "err", err)
		}
		c = k.now.Load()
	}
	return c
}

// look reads the files again if they have changed. The caller holds mu.
func (k *kept) look(t *terminator, name string) error {
	old := k.now.Load()
	stamps := k.sources.stamps()
	if k.sources.named && stamps[0].size < 0 {
		k.gone.Store(true)
		return nil
	}
	if sameStamps(stamps, old.stamps) || sameStamps(stamps, k.bad) {
		return nil
	}
	m, err := k.sources.load()
	if err != nil {
		k.bad = stamps
		return err
	}
	if m.certificate.OCSPStaple == nil && k.sources.staple != "" && string(m.certificate.Certificate[0]) == string(old.leaf) {
		m.certificate.OCSPStaple = old.config.Certificates[0].OCSPStaple // until there is a better one
	}
	t.doubt(m.doubts)
	c := t.credential(m, name)
	c.stamps = stamps
	k.now.Store(c)
	k.bad = nil
	t.log.Info("certificate read again", "service", t.service, "file", k.sources.certificate)
	return nil
}

func (t *terminator) doubt(doubts []error) {
	for _, err := range doubts {
		t.log.Warn("certificate", "service", t.service, "err", err)
	}
}

// reload reads all files again that have changed, and tells what is no good.
func (t *terminator) reload() error {
	if t.main == nil {
		return errNoMaterial
	}
	errs := []error{t.main.again(t, "")}
	for name, k := range t.names.all() {
		errs = append(errs, k.again(t, name))
	}
	return errors.Join(errs...)
}

// again looks at the files now, also at those that were no good before.
func (k *kept) again(t *terminator, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked, k.bad = time.Now(), nil
	return k.look(t, name)
}

// named returns the credential of a file name in the directory of names, nil if
// there is none.
func (t *terminator) named(name string) (*credential, error) {
	base := filepath.Join(t.set.SNIPath, name)
	if k := t.names.get(name); k != nil {
		if c := k.get(t, name); !k.gone.Load() {
			return c, nil
		}
		t.names.drop(name)
	}
	if _, err := os.Stat(base + ".crt"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	k := &kept{sources: sources{
		certificate: base + ".crt", key: base + ".key", caFile: base + ".ca", staple: base + ".ocsp",
		named: true, elseFile: t.set.CAFile, elsePath: t.set.CAPath,
	}}
	if err := k.first(t, name); err != nil {
		if t.names.warned.due(time.Now(), lackWarning) {
			t.log.Warn("certificate of a name", "service", t.service, "name", name, "err", err)
		}
		return nil, fmt.Errorf("%w: %w", errNoMaterial, err)
	}
	t.names.put(name, k)
	return k.now.Load(), nil
}
