package metrics

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pen/internal/metrics/metricstest"
)

func textOf(t testing.TB, s *Set) string {
	t.Helper()
	var b strings.Builder
	if n, err := s.WriteTo(&b); err != nil || int(n) != b.Len() {
		t.Fatalf("wrote %d of %d, %v", n, b.Len(), err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	var s Set
	s.Add(Gauge, "b", "Second.", 0.25, Label{"z", "1"}, Label{"a", "2"})
	s.Add(Counter, "a_total", "First \\ of\nthem, \"so\".", 1<<53)
	s.Add(Gauge, "b", "Not this help.", math.Inf(1), Label{"a", "q\"b\\s\nn"})
	s.Add(Gauge, "c", "Times.", 1796077294.532)
	want := `# HELP a_total First \\ of\nthem, "so".
# TYPE a_total counter
a_total 9007199254740992
# HELP b Second.
# TYPE b gauge
b{a="2",z="1"} 0.25
b{a="q\"b\\s\nn"} +Inf
# HELP c Times.
# TYPE c gauge
c 1796077294.532
`
	if got := textOf(t, &s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNoSeriesStandsTwice(t *testing.T) {
	var s Set
	s.Add(Gauge, "x", "X.", 1, Label{"a", "1"}, Label{"b", "2"})
	s.Add(Counter, "x", "Y.", 2, Label{"b", "2"}, Label{"a", "1"})
	want := "# HELP x X.\n# TYPE x gauge\nx{a=\"1\",b=\"2\"} 1\n"
	if got := textOf(t, &s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNothing(t *testing.T) {
	if got := textOf(t, &Set{}); got != "" {
		t.Errorf("got %q", got)
	}
}

// FuzzText: whatever is in a label or a help text, the answer is one that is
// understood, and says the same.
func FuzzText(f *testing.F) {
	f.Add("a\"b", "back\\slash\nline", 1.5)
	f.Add("\\", "\\n", math.NaN())
	f.Add("} 1\nforged 1", "# TYPE", math.Copysign(0, -1))
	f.Add("\xff\xfe", "\x00\r", math.Inf(-1))
	f.Fuzz(func(t *testing.T, value, help string, number float64) {
		var s Set
		s.Add(Gauge, "x", help, number, Label{"a", value}, Label{"b", ""})
		text := textOf(t, &s)
		if !utf8.ValidString(text) {
			t.Fatalf("not UTF-8: %q", text)
		}
		got, err := metricstest.Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		family := got["x"]
		if len(got) != 1 || family == nil || family.Help != clean(help) || len(family.Samples) != 1 {
			t.Fatalf("got %+v", got)
		}
		sample := family.Samples[0]
		if sample.Labels["a"] != clean(value) || sample.Labels["b"] != "" || len(sample.Labels) != 2 {
			t.Errorf("labels %q, want %q", sample.Labels, clean(value))
		}
		if sample.Value != number && !(math.IsNaN(sample.Value) && math.IsNaN(number)) {
			t.Errorf("got %v, want %v", sample.Value, number)
		}
	})
}
