package proxy

import "strings"

// wildcard begins the files of a certificate for every name one label longer
// than the rest says: _.example.com.crt is for www.example.com.
const wildcard = "_"

// maxName is the length of the longest host name that there is.
const maxName = 253

// fileNames returns the names under which the certificate for a host is looked
// for: its own, then that of the wildcard above it. There are none for what is no
// host name: whatever a client sends, it never leads out of the directory.
func fileNames(host string) (names []string) {
	host = strings.ToLower(host)
	if !hostName(host) {
		return nil
	}
	names = append(names, host)
	if _, rest, ok := strings.Cut(host, "."); ok && strings.Contains(rest, ".") {
		names = append(names, wildcard+"."+rest)
	}
	return names
}

// hostName tells whether s is made of labels of letters, digits, '-' and '_' with
// dots between them, and is not a label that stands for others.
func hostName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label == wildcard || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}
