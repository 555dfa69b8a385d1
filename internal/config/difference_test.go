package config

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pen/state"
)

func TestDifferences(t *testing.T) {
	const base = "listen 80\nacl 1 permit 10.0.0.0 255.0.0.0\nacl 1 deny 0.0.0.0 0.0.0.0\nserver 0 address 10.0.1.1 port 80\n"
	for name, c := range map[string]struct {
		first, second string
		want          []string
	}{
		"none": {base, base, nil},
		"values": {base + "timeout 4\nno hash\n", base + "timeout 7\nhash\ncontrol_acl 1\n", []string{
			"- control_acl 0", "+ control_acl 1", "- no hash", "+ hash", "- timeout 4", "+ timeout 7",
		}},
		"servers": {base, base + "server 0 port 81\nserver 1 address 10.0.1.2 port 80\nemergency 10.0.1.3:80\n", []string{
			"- server 0 acl 0 address 10.0.1.1 port 80 max 0 hard 0 weight 0 prio 0",
			"+ server 0 acl 0 address 10.0.1.1 port 81 max 0 hard 0 weight 0 prio 0",
			"- no emergency", "+ emergency 10.0.1.3:80",
			"+ server 1 acl 0 address 10.0.1.2 port 80 max 0 hard 0 weight 0 prio 0",
		}},
		"order of a list": {base, "listen 80\nacl 1 deny 0.0.0.0 0.0.0.0\nacl 1 permit 10.0.0.0 255.0.0.0\nserver 0 address 10.0.1.1 port 80\n", []string{
			"- acl 1 permit 10.0.0.0 255.0.0.0", "- acl 1 deny 0.0.0.0 0.0.0.0", "+ acl 1 deny 0.0.0.0 0.0.0.0", "+ acl 1 permit 10.0.0.0 255.0.0.0",
		}},
		"a service": {base + "service web\nlisten 81\ntimeout 9\n", base + "service mail\nlisten 25\n", []string{
			"- service web", "- service web timeout 9", "- service web listen 81", "+ service mail", "+ service mail listen 25",
		}},
	} {
		first, second := plan(t, read(t, c.first)).View, plan(t, read(t, c.second)).View
		var got []string
		for _, d := range Differences(first, second) {
			sign := "- "
			if d.Second {
				sign = "+ "
			}
			got = append(got, sign+d.Line)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What an operation changes is about the same as the lines that differ by it.
func TestSubjectsOfOperationsAndLines(t *testing.T) {
	first := plan(t, read(t, "listen 80\nserver 0 address 10.0.1.1 port 80\nserver 1 address 10.0.1.2 port 80\nabuse 10.0.1.9:80\nservice web\nlisten 81\n")).View
	second := plan(t, read(t, "listen 82\nserver 0 address 10.0.1.1 port 82\nacl 3 permit 10.0.0.0 255.0.0.0\nclient_acl 3\ncontrol_acl 3\ndrain_timeout 9\n"+
		"idle_timeout 7\nhash\nprio\nweight\nemergency 10.0.1.8:80\ntcp_fastclose up\nsource 10.0.0.1\nservice web\nlisten 83\nbacklog 99\n")).View
	var ops, lines []string
	for _, o := range state.Diff(first, second) {
		ops = append(ops, Subjects(o))
	}
	for _, d := range Differences(first, second) {
		lines = append(lines, d.Subject)
	}
	for _, all := range []*[]string{&ops, &lines} {
		slices.Sort(*all)
		*all = slices.Compact(*all)
	}
	if diff := cmp.Diff(ops, lines); diff != "" {
		t.Error(diff)
	}
}
