package proxy

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/state"
	"pen/test/rig"
)

// TestAFileOfCountriesThatIsNoGood: at the start pen serves without one, later
// nobody can ask for one by mistake, and what another node asks for is waited for.
func TestAFileOfCountriesThatIsNoGood(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.mmdb"), filepath.Join(dir, "bad.mmdb")
	write(t, good, rig.Countries(time.Unix(1e9, 0), somewhere))
	write(t, bad, []byte("nonsense"))
	s := newStill(t, Options{}, 0, backend(t, loopback, echo))
	asked := func(file string) error {
		v := *s.view()
		v.Global.GeoIPDB = file
		return s.Prepare(&v)
	}
	if err := asked(bad); err != nil {
		t.Errorf("at the start: %v", err)
	}
	s.set(state.OptGeoIPDB, state.Text(good))
	s.start()
	eventually(t, "running", func() bool { s.Proxy.mu.Lock(); defer s.Proxy.mu.Unlock(); return s.base != nil })
	for file, want := range map[string]string{
		bad:                           "is no database of MaxMind's kind",
		filepath.Join(dir, "missing"): "no such file or directory",
		dir:                           "is no plain file",
	} {
		if err := asked(file); err == nil || !strings.Contains(err.Error(), "geoip_db: read "+file+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
	addr := netip.MustParseAddr("10.0.0.1")
	s.set(state.OptGeoIPDB, state.Text(filepath.Join(dir, "later.mmdb")))
	if got := s.Country(addr); got != "SE" {
		t.Errorf("a file that is not here yet: got %q, want what was known before", got)
	}
	write(t, filepath.Join(dir, "later.mmdb"), rig.Countries(time.Unix(2e9, 0), map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/8"): "DK"}))
	eventually(t, "it is here", func() bool { return s.Country(addr) == "DK" })
}
