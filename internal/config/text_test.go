package config

import "testing"

func TestAtoiIsThatOfC(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "12": 12, "12x": 12, " 7": 7, "-3": -3, "+5": 5, "abc": 0, "-": 0, "0x10": 0,
		"99999999999": 1215752191, "99999999999999999999": -1, "-99999999999999999999": 0,
		"2147483648": -2147483648, "\t\n4": 4,
	} {
		if got := atoi(text); got != want {
			t.Errorf("atoi(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestNearestIsWhatWasProbablyMeant(t *testing.T) {
	words := newReader(InFile).names(false)
	for typed, want := range map[string]string{
		"tiemout": "timeout", "blaklist": "blacklist", "roundrobbin": "roundrobin", "servr": "server",
		"xyzzy": "", "a": "", "conn-max": "conn_max", "tcp_no_delay": "tcp_nodelay",
	} {
		if got := nearest(typed, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", typed, got, want)
		}
	}
}

func TestDistanceCountsASwapOnce(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"wieght", "weight", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
