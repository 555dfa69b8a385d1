package config

import (
	"fmt"
	"path/filepath"

	"pen/state"
)

// tlsWords say how clients are talked to over TLS. The files are each node's own,
// under the same names.
var tlsWords = []Word{
	fileWord(state.OptTLSCertificate, "FILE", "certificate in PEM, with its chain: talk TLS to clients (option -E)"),
	fileWord(state.OptTLSKey, "FILE", "private key in PEM, if not in that file (option -K)"),
	fileWord(state.OptTLSCAFile, "FILE", "authorities for clients' certificates and for the chain (option -G)"),
	fileWord(state.OptTLSCAPath, "DIR", "directory of such files (option -A)"),
	{
		Name: "ssl_client_certificate", Kind: KindReplicated, PerService: true, New: true,
		Args: []Arg{{Name: "WHETHER", Type: TypeEnum, Among: clientCertificates}},
		Help: "whether clients have to show a certificate (option -R: require)",
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			return enumOps(s, state.OptTLSClient, clientCertificates), nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string {
			return line(clientCertificates[settings(s, v).TLS.Client])
		},
	},
	{
		Name: "ssl_ciphers", Kind: KindReplicated, PerService: true, Bare: true,
		Args: []Arg{{Name: "LIST", Type: TypeText, Optional: true}},
		Help: "ciphers of TLS 1.2, as OpenSSL names them; nothing: all good ones",
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			list := ""
			if len(s.Args) > 0 {
				list = s.Args[0].Text
			}
			return []state.Op{set(s, state.OptTLSCiphers, state.Text(list))}, nil
		},
	},
	{
		Name: "ssl_option", Kind: KindReplicated, No: true, PerService: true,
		Args: []Arg{{Name: "WORD", Type: TypeText}},
		Help: "speak TLS 1.3 alone with no_tlsv1.2, 1.2 alone with no_tlsv1.3",
		more: []string{"the last one counts", "no_sslv2, no_sslv3, no_tlsv1, no_tlsv1.1 and cipher_server_preference say what is so anyway"},
		check: func(s *Statement) *Error {
			if s.No || len(s.Args) == 0 || among(s.Args[0].Text, tlsOptionWords) {
				return nil
			}
			word := s.Args[0].Text
			return &Error{
				Pos: s.at(0), What: fmt.Sprintf("%q for ssl_option", word), Want: oneOf(tlsOptionWords), Hint: nearest(word, tlsOptionWords),
			}
		},
		ops:    tlsOptionOps,
		refuse: tlsOptionRefuse,
		note: func(s *Statement) string {
			switch {
			case s.No || len(s.Args) == 0:
			case s.Args[0].Text == "cipher_server_preference":
				return "the best cipher that suits both machines is taken anyway"
			case s.Args[0].Text != "no_tlsv1.2" && s.Args[0].Text != "no_tlsv1.3":
				return "TLS 1.2 and 1.3 are spoken, and nothing older"
			}
			return ""
		},
	},
	theirs(fileWord(state.OptTLSOCSP, "FILE", "OCSP response in DER to hand out with the certificate")),
	theirs(fileWord(state.OptTLSSNIPath, "DIR", "directory of certificates by name: NAME.crt, NAME.key")),
}

var (
	clientCertificates = []string{"off", "request", "require"}
	tlsOptionWords     = []string{"no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1.1", "no_tlsv1.2", "no_tlsv1.3", "cipher_server_preference"}
)

// fileWord is the name of a file or directory, or none.
func fileWord(o state.Option, arg, help string) Word {
	w := Word{
		Name: o.String(), Kind: KindReplicated, No: true, PerService: !o.Global(), New: true,
		Args: []Arg{{Name: arg, Type: TypePath}}, Help: help,
		more: []string{"a relative path begins beside the file that names it"},
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			name := ""
			if !s.No && len(s.Args) == 0 {
				return nil, nil
			}
			if !s.No {
				name = whole(s.path(s.Args[0].Text))
			}
			return []state.Op{set(s, o, state.Text(name))}, nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string {
			if s.No || len(s.Args) > 0 {
				return ""
			}
			return line(textOf(s, v, o))
		},
	}
	return w
}

// whole makes a path independent of the working directory: it is saved, and read
// by other nodes.
func whole(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path
}

// theirs marks a word that the original has.
func theirs(w Word) Word { w.New = false; return w }

func enumOps(s *Statement, o state.Option, words []string) []state.Op {
	for i, word := range words {
		if len(s.Args) > 0 && s.Args[0].Text == word {
			return []state.Op{set(s, o, state.Int(i))}
		}
	}
	return nil
}

func tlsOptionOps(s *Statement, _ *environment) ([]state.Op, error) {
	versions := state.TLSAny
	switch {
	case s.No:
	case len(s.Args) == 0:
		return nil, nil
	case s.Args[0].Text == "no_tlsv1.2":
		versions = state.TLSNot12
	case s.Args[0].Text == "no_tlsv1.3":
		versions = state.TLSNot13
	default:
		return nil, nil
	}
	return []state.Op{set(s, state.OptTLSVersions, state.Int(int(versions)))}, nil
}

// tlsOptionRefuse ignores what the original ignores.
func tlsOptionRefuse(s *Statement) *Reply {
	if !s.No && (len(s.Args) == 0 || !among(s.Args[0].Text, tlsOptionWords)) {
		return &Reply{Log: "ssl_option: expected " + oneOf(tlsOptionWords)}
	}
	return nil
}

// tls looks at TLS: at what does not go together, and at the files.
func (a *analysis) tls(s *state.Service) {
	t := s.TLS
	if t.Certificate == "" {
		for _, o := range []state.Option{
			state.OptTLSKey, state.OptTLSCAFile, state.OptTLSCAPath, state.OptTLSClient, state.OptTLSOCSP, state.OptTLSSNIPath,
		} {
			d := state.Defaults()
			if s.Get(o) != d.Get(o) {
				a.odd(place{s.Name, o.String(), 0}, "%v has no effect without ssl_certificate", o)
			}
		}
		return
	}
	at := place{s.Name, "ssl_certificate", 0}
	if s.Protocol == state.UDP {
		a.wrong(at, "TLS is for TCP: protocol udp and ssl_certificate do not go together")
	}
	if t.Client != state.ClientCertificateOff && t.CAFile == "" && t.CAPath == "" {
		a.odd(place{s.Name, "ssl_client_certificate", 0}, "clients' certificates may be of any authority that this system trusts: name yours with ssl_ca_file")
	}
	if a.TLS == nil || a.broken {
		return
	}
	if err := a.TLS(s); err != nil {
		a.wrong(at, "%v", err)
	}
}
