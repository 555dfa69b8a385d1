package config

import (
	"errors"
	"strings"
	"testing"

	"pen/state"
)

func TestObsoleteWordsOfTLSAreTakenWithANotice(t *testing.T) {
	line, err := ParseArgs([]string{"-Z", "-L", "tls1", "8080", "10.0.0.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "notices", line.Notices, []string{
		"TLS 1.2 and 1.3 are spoken by the book; -Z does nothing",
		"TLS 1.2 and 1.3 are spoken whatever -L says; see ssl_option",
	})
	statements := read(t, "listen 8080\nserver 0 address 10.0.0.1 port 80\nssl_option no_sslv3\nssl_option cipher_server_preference\n"+
		"ssl_option no_tlsv1.2\nssl_client_renegotiation_interval 3600\n")
	var got []string
	for _, f := range (Checker{}).Examine(plan(t, statements), statements) {
		got = append(got, f.Severity+": "+f.What)
	}
	equal(t, "findings", got, []string{
		`warning: "ssl_option no_sslv3" does nothing: TLS 1.2 and 1.3 are spoken, and nothing older`,
		`warning: "ssl_option cipher_server_preference" does nothing: the best cipher that suits both machines is taken anyway`,
		`warning: "ssl_client_renegotiation_interval 3600" does nothing: clients can not renegotiate at all`,
	})
}

func TestCheckOfTLS(t *testing.T) {
	const rest = "listen 8080\nserver 0 address 10.0.0.1 port 80\n"
	bad := errors.New("read /c: no such file or directory")
	for text, want := range map[string]string{
		"ssl_key /k":                     "warning: ssl_key has no effect without ssl_certificate",
		"ssl_client_certificate require": "warning: ssl_client_certificate has no effect without ssl_certificate",
		"ssl_sni_path /d":                "warning: ssl_sni_path has no effect without ssl_certificate",
		"ssl_certificate /c":             "error: read /c: no such file or directory",
		"ssl_certificate /c\nssl_client_certificate request": "warning: clients' certificates may be of any authority that this system trusts: name yours with ssl_ca_file\n" +
			"error: read /c: no such file or directory",
	} {
		statements := read(t, rest+text+"\n")
		check := Checker{TLS: func(*state.Service) error { return bad }}
		var got []string
		for _, f := range check.Examine(plan(t, statements), statements) {
			got = append(got, f.Severity+": "+f.What)
		}
		if all := strings.Join(got, "\n"); all != want {
			t.Errorf("%s: got %s, want %s", text, all, want)
		}
	}
}
