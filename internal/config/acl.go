package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"pen/state"
)

// parseEntry reads what stands after the number of a list: permit|deny and
// ADDRESS, ADDRESS MASK, ADDRESS/LENGTH or country XX. The original drops an IPv4
// address with a length, which leaves the list more open than was meant; here it
// is taken.
func parseEntry(words []string) (state.ACLEntry, error) {
	var entry state.ACLEntry
	if len(words) == 0 || (words[0] != "permit" && words[0] != "deny") {
		return entry, errors.New("acl: expected permit|deny")
	}
	entry.Permit = words[0] == "permit"
	switch {
	case len(words) == 1:
		return entry, errors.New("acl: expected an address or country")
	case words[1] == "country":
		return country(entry, words[2:])
	}
	address, length, cut := strings.Cut(words[1], "/")
	addr, ok := entryAddr(address)
	if !ok {
		return entry, fmt.Errorf("acl: bogus address '%s'", words[1])
	}
	bits := addr.BitLen()
	if cut {
		n, err := strconv.ParseUint(length, 10, 8)
		if err != nil || int(n) > bits {
			return entry, fmt.Errorf("acl: bogus length '%s', expected 0 to %d", length, bits)
		}
		bits = int(n)
	}
	entry.Addr, entry.Mask = addr, maskOf(bits, addr.BitLen())
	if len(words) > 2 && addr.Is4() && !cut {
		if entry.Mask, ok = aton(words[2]); !ok {
			return entry, fmt.Errorf("acl: bogus mask '%s'", words[2])
		}
	}
	return entry, nil
}

func entryAddr(text string) (netip.Addr, bool) {
	if !strings.Contains(text, ":") {
		return aton(text)
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil && a.Zone() == ""
}

func country(entry state.ACLEntry, words []string) (state.ACLEntry, error) {
	if len(words) == 0 {
		return entry, errors.New("acl: expected country")
	}
	code := strings.ToUpper(words[0])
	if len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return entry, fmt.Errorf("acl: bogus country '%s', expected two letters", words[0])
	}
	entry.Country = code
	return entry, nil
}

// maskOf has ones in its first bits.
func maskOf(ones, bits int) netip.Addr {
	var raw [16]byte
	for i := range ones {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	if bits == 32 {
		return netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrFrom16(raw)
}
