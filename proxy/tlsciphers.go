package proxy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// cipher is a cipher suite of TLS 1.2 with OpenSSL's name and groups for it.
type cipher struct {
	id     uint16
	name   string
	groups string // between blanks
}

// ciphers are all that are good enough today. Those of TLS 1.3 are no choice.
var ciphers = []cipher{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", " ECDSA aECDSA AES128 AESGCM HIGH SHA256 "},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", " RSA aRSA AES128 AESGCM HIGH SHA256 "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", " ECDSA aECDSA AES256 AESGCM HIGH SHA384 "},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", " RSA aRSA AES256 AESGCM HIGH SHA384 "},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", " ECDSA aECDSA CHACHA20 HIGH "},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", " RSA aRSA CHACHA20 HIGH "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", " ECDSA aECDSA AES128 HIGH SHA SHA1 "},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", " RSA aRSA AES128 HIGH SHA SHA1 "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", " ECDSA aECDSA AES256 HIGH SHA SHA1 "},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", " RSA aRSA AES256 HIGH SHA SHA1 "},
}

// is tells whether a word of a cipher list means c: its name, or groups with '+'
// between them. In OpenSSL's list RSA alone is a way to exchange keys, and there is
// no cipher with it any more.
func (c *cipher) is(word string) bool {
	if word == c.name {
		return true
	}
	for group := range strings.SplitSeq(word, "+") {
		switch group {
		case "ALL", "DEFAULT", "COMPLEMENTOFDEFAULT", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2", "AES":
			if group == "COMPLEMENTOFDEFAULT" || group == "AES" && strings.Contains(c.groups, " CHACHA20 ") {
				return false
			}
			continue
		}
		if group == "" || group == "RSA" && word == "RSA" || !strings.Contains(c.groups, " "+group+" ") {
			return false
		}
	}
	return true
}

// cipherList reads a list in OpenSSL's language. Words for ciphers that are not
// offered any more mean nothing; a list that leaves nothing is an error. The order
// counts for nothing: the strongest that suits both machines is taken. No list
// means all.
func cipherList(list string) ([]uint16, error) {
	if list == "" {
		return nil, nil
	}
	var chosen []uint16
	var barred []uint16
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		sign := word[0]
		if strings.IndexByte("!-+", sign) >= 0 {
			word = word[1:]
		}
		for i := range ciphers {
			c := &ciphers[i]
			switch {
			case !c.is(word):
			case sign == '!':
				barred = append(barred, c.id)
			case sign == '-':
				chosen = slices.DeleteFunc(chosen, func(id uint16) bool { return id == c.id })
			case sign != '+' && !slices.Contains(chosen, c.id):
				chosen = append(chosen, c.id)
			}
		}
	}
	chosen = slices.DeleteFunc(chosen, func(id uint16) bool { return slices.Contains(barred, id) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("ciphers %q leave none for TLS 1.2; there are %s", list, cipherNames())
	}
	return chosen, nil
}

func cipherNames() string {
	var names []string
	for i := range ciphers {
		names = append(names, ciphers[i].name)
	}
	return strings.Join(names, " ")
}
