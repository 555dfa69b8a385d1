package control

import (
	"strings"
	"testing"
)

func TestRefused(t *testing.T) {
	for reply, want := range map[string]bool{
		"do_cmd: ignoring command starting with 'foo'\n":         true,
		"do_cmd: ignoring tcp_fastclose without argument\n":      true,
		"Exit is not enabled; restart with -X flag\n":            true,
		"Connection 9999 out of range\n":                         true,
		"Unable to create webstats\n":                            true,
		"unable to set source address to 'x'":                    true,
		"error: no service \"web\"\n":                            true,
		"<html>\n<head>\nerror: the command failed inside pen\n": true,
		"":                                false,
		"\n":                              false,
		"30\n":                            false,
		"Connection 0:\nstate = 2\n":      false,
		"Forcibly closing connection 3\n": false,
		"no hash no roundrobin\n":         false,
		"/var/log/error: odd\n":           false,
		"0 addr 127.0.0.1\nConnection 1 out of range or\n": false,
	} {
		if got := Refused([]byte(reply)); got != want {
			t.Errorf("%q: got %v", reply, got)
		}
	}
}

func TestVerdictOnLongReplies(t *testing.T) {
	long := strings.Repeat("0 addr 127.0.0.1 port 80\n", 1000)
	for reply, want := range map[string]bool{
		long:                                  false,
		"error: no\n" + long:                  true,
		long + "error: broken\n":              true,
		long + "error: no" + long:             false,
		strings.Repeat("error: x ", 1000):     true,
		"<" + strings.Repeat("error: x", 999): false,
	} {
		var v Verdict
		v.Write([]byte(reply))
		if got := v.Refused(); got != want {
			t.Errorf("%.20q... of %d bytes: got %v", reply, len(reply), got)
		}
	}
}

// FuzzVerdict: a reply in two pieces is judged as it is in one, and short ones
// as Refused judges them.
func FuzzVerdict(f *testing.F) {
	f.Add("error: no\n", uint16(3), uint16(0))
	f.Add("mode\nerror: x", uint16(6), uint16(2000))
	f.Fuzz(func(t *testing.T, reply string, cut, pad uint16) {
		reply = strings.Repeat("x\n", int(pad)%3000) + reply
		n := min(int(cut), len(reply))
		var one, two Verdict
		one.Write([]byte(reply))
		two.Write([]byte(reply[:n]))
		two.Write([]byte(reply[n:]))
		if one.Refused() != two.Refused() {
			t.Errorf("cut at %d matters", n)
		}
		if len(reply) < verdictSize && one.Refused() != Refused([]byte(reply)) {
			t.Errorf("%q: got %v", reply, one.Refused())
		}
	})
}
