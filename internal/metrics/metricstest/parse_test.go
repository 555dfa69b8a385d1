package metricstest

import "testing"

func TestParseIsStrict(t *testing.T) {
	const head = "# HELP a A.\n# TYPE a gauge\n"
	for _, text := range []string{
		"a 1\n", "# TYPE a gauge\na 1\n", "# HELP a A.\na 1\n", head, head + "a 1", head + "b 1\n", head + "ab 1\n", head + "a\n", head + "a x\n",
		head + "a 1\na 2\n", head + "a{b=\"1\"} 1\na{b=\"1\"} 2\n", head + "a{c=\"\",b=\"\"} 1\n", head + "a{b=\"\",b=\"\"} 1\n", head + "a{b=\"\\x\"} 1\n",
		head + "a{b=\"\"\n", head + "a{b=\"\" 1\n", head + "a{B=\"\"} 1\n", head + "a 1\n" + head + "a 2\n", head + "\na 1\n",
		"# HELP a A.\n# TYPE a counter\na 1\n", "# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n", "# HELP a A.\n# TYPE a summary\na 1\n",
		head + "a 1\n# HELP A A.\n# TYPE A gauge\nA 1\n", "# HELP b B.\n# TYPE b gauge\nb 1\n" + head + "a 1\n",
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("taken: %q", text)
		}
	}
	got, err := Parse(head + "a{b=\"x\\\"\\\\\\n\",c=\"\"} -1.5\na +Inf\n")
	if err != nil || len(got) != 1 || got["a"].Samples[0].Labels["b"] != "x\"\\\n" || got["a"].Samples[0].Value != -1.5 || got["a"].Help != "A." {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := Parse(""); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
