package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// alpn keeps us and other users of TLS apart, should one meet the other's port.
const alpn = "pen-cluster"

// The certificates do not expire: whoever has the key mints a new one whenever it
// likes, so an end would protect nobody, and nodes whose clocks are wrong (after
// a start without a battery, say) could not talk. No clock is asked.
var (
	certStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	certEnd   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // "none", RFC 5280 4.1.2.5
	certNow   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// identity is how a node proves that it has the key, and finds out whether
// others do: a certificate that lives in memory only, signed by an authority
// that every holder of the key can be.
type identity struct {
	label  string
	server *tls.Config
	client *tls.Config
}

func newIdentity(key Key, node ID) (*identity, error) {
	ca, caKey, err := authority(key)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	label := key.label()
	leaf, err := mint(ca, caKey, node, label)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	id := &identity{label: label}
	id.client = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{leaf},
		RootCAs:      pool,
		ServerName:   label,
		Time:         func() time.Time { return certNow },
	}
	id.server = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{leaf},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		Time:                   func() time.Time { return certNow },
		SessionTicketsDisabled: true, // every connection proves itself; nothing is read ahead of the hello
	}
	stranger := id.server.Clone()
	stranger.Certificates = nil
	id.server.GetConfigForClient = func(hi *tls.ClientHelloInfo) (*tls.Config, error) {
		if hi.ServerName == label || !strings.HasPrefix(hi.ServerName, labelPrefix) {
			return nil, nil
		}
		// It has another key and says so. Nothing is signed for it: it is told
		// "unrecognized name".
		if c, ok := hi.Conn.(*rawConn); ok {
			c.otherKey.Store(true)
		}
		return stranger, nil
	}
	return id, nil
}

// authority is the same certificate and key on every node that has the key.
func authority(key Key) (*x509.Certificate, ed25519.PrivateKey, error) {
	private := ed25519.NewKeyFromSeed(key.authority())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pen cluster"},
		NotBefore: certStart, NotAfter: certEnd,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, private, err
}

// mint makes the certificate of a process. It names the node, and the key as
// every certificate of the cluster does.
func mint(ca *x509.Certificate, caKey ed25519.PrivateKey, node ID, label string) (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(public[:16]), DNSNames: []string{node.String(), label},
		NotBefore: certStart, NotAfter: certEnd,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, public, caKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

// certifiedNode is the node that the peer's certificate names.
func certifiedNode(c *tls.Conn) (ID, error) {
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return ID{}, errors.New("no certificate")
	}
	for _, name := range certs[0].DNSNames {
		if id, err := ParseID(name); err == nil {
			return id, nil
		}
	}
	return ID{}, errors.New("a certificate without a node id")
}

// certAlerts are what a peer says to a certificate that it does not accept.
var certAlerts = []string{"bad certificate", "unknown certificate authority", "certificate required"}

// whyAccept finds the reason for a handshake that an accepted connection did not
// get through.
func whyAccept(c *rawConn, err error) *RefusedError {
	var header tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case c.otherKey.Load():
		return &RefusedError{Reason: WrongKey, Detail: "the peer has another cluster key"}
	case errors.Is(err, errTooMuch):
		return &RefusedError{Reason: TooMuch}
	case isTimeout(err):
		return &RefusedError{Reason: TooSlow}
	case errors.As(err, &header):
		return &RefusedError{Reason: NotTLS}
	case errors.As(err, &cert):
		return &RefusedError{Reason: WrongKey, Detail: "a certificate that was not made with our key"}
	case err.Error() == "tls: client didn't provide a certificate":
		return &RefusedError{Reason: NoCertificate}
	case isAlert(err, certAlerts...):
		return &RefusedError{Reason: WrongKey, Detail: "the peer does not accept our certificate"}
	case gone(err):
		return &RefusedError{Reason: Closed}
	}
	return &RefusedError{Reason: NotTLS, Detail: clean(err.Error())}
}

// whyDial does the same for a connection of ours; nil: nothing was refused, the
// peer was not there or went away.
func whyDial(err error) *RefusedError {
	var header tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return &RefusedError{Reason: WrongKey, Detail: "a certificate that was not made with our key"}
	case isAlert(err, "unrecognized name"):
		return &RefusedError{Reason: WrongKey, Detail: "the peer has another cluster key", ByPeer: true}
	case isAlert(err, certAlerts...):
		return &RefusedError{Reason: WrongKey, Detail: "the peer does not accept our certificate", ByPeer: true}
	case errors.As(err, &header):
		return &RefusedError{Reason: NotTLS}
	case errors.Is(err, errTooMuch):
		return &RefusedError{Reason: TooMuch}
	}
	return nil
}

// isAlert tells whether the peer sent one of these alerts. They have no exported
// type outside of QUIC.
func isAlert(err error, alerts ...string) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	for _, a := range alerts {
		if op.Err.Error() == "tls: "+a {
			return true
		}
	}
	return false
}
