//go:build linux

package process

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

// countries makes a database in which 127.0.0.N is in the given country.
func countries(t *testing.T, file string, of map[int]string) {
	t.Helper()
	prefixes := map[netip.Prefix]string{}
	for n, code := range of {
		prefixes[netip.MustParsePrefix(fmt.Sprintf("127.0.0.%d/32", n))] = code
	}
	if err := os.WriteFile(file+".new", rig.Countries(time.Now(), prefixes), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestCountries: prefixes and countries in their order, as a client finds them; a
// database that changes, that is broken, and that is not there at all.
func TestCountries(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	file := filepath.Join(d.dir, "geo.mmdb")
	d.start("-r", "--geoip-db", file, "--acl", "home deny 127.0.0.3", "--acl", "home permit country se", "--acl", "home deny 127.0.0.6",
		"--acl", "home permit country NO", "--client-acl", "home", "{listen}", "{a}")
	lets := func(when, want string) {
		t.Helper()
		got := ""
		ok := rig.Eventually(rig.Patience, func() bool {
			got = ""
			for n := 2; n <= 7; n++ {
				if d.fetch(n) == "a" {
					got += fmt.Sprint(n)
				}
			}
			return got == want
		})
		if !ok {
			t.Errorf("%s: lets %s in, want %s\n%s", when, got, want, d.Stderr())
		}
	}
	lets("no database", "")
	if !strings.Contains(d.Stderr(), "country entries match nobody on this machine") || !strings.Contains(d.ask("counters"), "geoip_known false\n") {
		t.Errorf("that there is none is not said:\n%s\n%s", d.Stderr(), d.ask("counters"))
	}
	countries(t, file, map[int]string{2: "SE", 3: "SE", 4: "NO", 5: "DE", 6: "NO"})
	lets("it is there", "24")
	countries(t, file, map[int]string{2: "DE", 3: "SE", 5: "SE", 6: "SE"})
	lets("another one", "56")
	if err := os.WriteFile(file, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(d.ask("counters"), "geoip_failures 2\n") }) {
		t.Errorf("a broken one is not counted:\n%s", d.ask("counters"))
	}
	lets("a broken one", "56")
	if got := d.ask("geoip_db " + file + ".missing"); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "no such file") {
		t.Errorf("a file that is not there: %q", got)
	}
	if got := d.ask("geoip_db"); got != file+"\n" {
		t.Errorf("geoip_db answers %q", got)
	}
	if got := d.ask("no acl home"); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "client_acl home: there is no access list of that name") {
		t.Errorf("a list that is used is removed: %q", got)
	}
	d.ask("no geoip_db")
	lets("none is wanted", "")
}
