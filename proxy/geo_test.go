package proxy

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
	"pen/test/rig"
)

var somewhere = map[netip.Prefix]string{
	netip.MustParsePrefix("10.0.0.0/8"):      "SE",
	netip.MustParsePrefix("10.64.0.0/10"):    "NO",
	netip.MustParsePrefix("10.64.1.2/32"):    "DE",
	netip.MustParsePrefix("192.0.2.0/24"):    "",
	netip.MustParsePrefix("2001:db8::/32"):   "FR",
	netip.MustParsePrefix("2001:db8:1::/48"): "SE",
	netip.MustParsePrefix("2000::/16"):       "NO",
}

// known is an atlas of somewhere.
func known(t testing.TB) *atlas {
	g, err := openGazetteer(rig.Countries(time.Unix(1e9, 0), somewhere))
	if err != nil {
		t.Fatal(err)
	}
	a := &atlas{log: mute}
	a.book.Store(g)
	return a
}

func TestCountriesOfAddresses(t *testing.T) {
	a := known(t)
	for addr, want := range map[string]string{
		"10.0.0.1": "SE", "10.64.0.1": "NO", "10.127.255.255": "NO", "10.128.0.0": "SE", "10.64.1.2": "DE", "10.64.1.3": "NO",
		"11.0.0.0": "", "9.255.255.255": "", "192.0.2.1": "",
		"2001:db8::1": "FR", "2001:db8:1::1": "SE", "2001:db8:2::1": "FR", "2000::1": "NO", "2002::1": "", "::1": "",
	} {
		if got := a.land(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	var none *atlas
	if got := none.land(netip.MustParseAddr("10.0.0.1")); got != 0 {
		t.Errorf("no database: got %v", got)
	}
	if got := (&atlas{}).land(netip.MustParseAddr("10.0.0.1")); got != 0 {
		t.Errorf("nothing read: got %v", got)
	}
	if allocs := testing.AllocsPerRun(100, func() { a.land(netip.MustParseAddr("10.64.1.2")) }); allocs > 0 {
		t.Errorf("a look-up allocates %v times", allocs)
	}
}

func write(t testing.TB, name string, raw []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(name+".new", raw, 0o644), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
}

func TestAFileOfCountriesIsReadAgainWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "countries.mmdb")
		made := rig.Countries(time.Unix(1e9, 0), somewhere)
		write(t, file, made)
		var log bytes.Buffer
		p := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a, addr := p.atlas, netip.MustParseAddr("10.0.0.1")
		v := *state.New().View()
		v.Global.GeoIPDB = file
		if err := errors.Join(p.Prepare(&v), p.Configure(&v)); err != nil {
			t.Fatal(err)
		}
		go a.keep(t.Context())
		is := func(when, want string) {
			t.Helper()
			time.Sleep(lookAgain)
			synctest.Wait()
			if got := p.Country(addr); got != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
		is("as it is", "SE")
		write(t, file, rig.Countries(time.Unix(2e9, 0), map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/24"): "DK"}))
		is("another one", "DK")
		if !strings.Contains(log.String(), "countries were read again") {
			t.Errorf("the log says nothing of it:\n%s", &log)
		}
		write(t, file, made[:len(made)/2])
		is("half of one", "DK")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		is("none", "DK")
		if got := strings.Count(log.String(), "the file of countries is no good"); got != 2 || a.failures.Load() != 2 {
			t.Errorf("%d warnings and %d failures, want 2 and 2:\n%s", got, a.failures.Load(), &log)
		}
		is("still none", "DK")
		if got := a.failures.Load(); got != 2 {
			t.Errorf("a file that has not changed was read again: %d failures", got)
		}
		write(t, file, made)
		is("the first one again", "SE")
		v.Global.GeoIPDB = ""
		if err := p.Configure(&v); err != nil {
			t.Fatal(err)
		}
		is("no file wanted", "")
	})
}

func TestDatabasesWithoutCountriesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty file", nil, "is no database"},
		{"no record", rig.Countries(time.Now(), nil), "has no countries"},
		{"records of something else", rig.Countries(time.Now(), map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/8"): ""}), "has no countries"},
		{"names for codes", rig.Countries(time.Now(), map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/8"): "Sweden"}), "has no countries"},
	} {
		if _, err := openGazetteer(c.raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzCountries: whatever is in a file, it is refused or it answers.
func FuzzCountries(f *testing.F) {
	made := rig.Countries(time.Unix(1e9, 0), somewhere)
	f.Add(made)
	f.Add(made[:len(made)-1])
	f.Add(bytes.Replace(made, []byte("iso_code"), []byte("iso_kode"), 1))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		g, err := openGazetteer(raw)
		if err != nil {
			return
		}
		a := &atlas{log: mute}
		a.book.Store(g)
		for _, addr := range []string{"0.0.0.0", "10.64.1.2", "255.255.255.255", "::", "2001:db8::1", "ffff::"} {
			_ = a.land(netip.MustParseAddr(addr)).String()
		}
	})
}
