package proxy

import (
	"crypto/tls"
	"encoding/binary"
)

// What a header says of a client's TLS in its first byte.
const (
	tlsUsed       = 0x01 // it was used
	tlsShownHere  = 0x02 // a certificate was shown on this connection
	tlsShownEarly = 0x04 // in this session
)

// tlsFields are the fields of a header about a client's TLS: what he asked for, and
// who he is.
func tlsFields(s *tls.ConnectionState) []byte {
	b := appendField(nil, fieldALPN, s.NegotiatedProtocol)
	b = appendField(b, fieldAuthority, s.ServerName)
	about := byte(tlsUsed)
	unverified, name := uint32(1), ""
	if len(s.PeerCertificates) > 0 {
		name = s.PeerCertificates[0].Subject.CommonName
		about |= tlsShownEarly
		if !s.DidResume {
			about |= tlsShownHere
		}
		if len(s.VerifiedChains) > 0 {
			unverified = 0
		}
	}
	value := binary.BigEndian.AppendUint32([]byte{about}, unverified)
	// OpenSSL writes "TLSv1.3" where package tls writes "TLS 1.3".
	value = appendField(value, fieldVersion, "TLSv"+tls.VersionName(s.Version)[len("TLS "):])
	value = appendField(value, fieldCipher, cipherName(s.CipherSuite))
	value = appendField(value, fieldName, name)
	return append(binary.BigEndian.AppendUint16(append(b, fieldTLS), uint16(len(value))), value...)
}

// cipherName is OpenSSL's name of a cipher suite. Those of TLS 1.3 have one name.
func cipherName(id uint16) string {
	for i := range ciphers {
		if ciphers[i].id == id {
			return ciphers[i].name
		}
	}
	return tls.CipherSuiteName(id)
}
