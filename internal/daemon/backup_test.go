package daemon

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/cluster"
	"pen/internal/config"
	"pen/state"
)

func backupOf(t testing.TB, clients bool) []byte {
	t.Helper()
	m := state.New()
	r := m.Apply(state.Command{Time: 100_000, Ops: []state.Op{
		state.SetLevel{Level: 2},
		state.Set{Option: state.OptTimeout, Value: state.Int(7)},
		state.AddService{Service: "web"},
		state.SetClients{Service: "web", Clients: []state.Visit{{Client: netip.MustParseAddr("10.0.0.1"), Server: state.None}}},
	}})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	snap := m.Snapshot()
	defer snap.Release()
	var b bytes.Buffer
	h := backupHead{Cluster: "shop", Version: "1.0", Time: time.Unix(100, 0), Index: snap.Index(), Level: m.View().Level(), Clients: clients}
	if err := writeBackup(&b, h, snap); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBackupIsReadAgain(t *testing.T) {
	for _, clients := range []bool{false, true} {
		h, v, err := readBackup(backupOf(t, clients))
		if err != nil {
			t.Fatal(err)
		}
		n := v.Service("web").Clients().Len()
		if h.Cluster != "shop" || h.Clients != clients || v.Service("").Timeout != 7 || (n == 1) != clients {
			t.Errorf("got %+v, timeout %d, %d clients", h, v.Service("").Timeout, n)
		}
	}
}

// sealed makes a backup with this head and a right sum.
func sealed(magic string, head any, rest []byte) []byte {
	text, _ := json.Marshal(head)
	b := append([]byte(magic), append(append(text, '\n'), rest...)...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func TestBackupThatIsRefused(t *testing.T) {
	good := backupOf(t, true)
	flipped := bytes.Clone(good)
	flipped[len(good)/2] ^= 1
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":               {nil, "it is no backup of pen"},
		"something else":      {[]byte("listen 80\n"), "it is no backup of pen"},
		"a later format":      {sealed("pen backup 2\n", backupHead{}, nil), "its format is newer than this program: restore it with a newer one"},
		"other line ends":     {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), "its line ends were changed on the way here, as when text is copied: take another copy, as it is"},
		"one bit":             {flipped, "it is damaged"},
		"cut":                 {good[:len(good)-1], "it is damaged"},
		"longer":              {append(bytes.Clone(good), 0), "it is damaged"},
		"a later level":       {sealed(backupMagic, backupHead{Level: state.Newest + 1, Version: "9.1"}, nil), fmt.Sprintf("it is of state level %d, written by version 9.1; this program knows up to %d: restore it with a newer one", state.Newest+1, state.Newest)},
		"no snapshot":         {sealed(backupMagic, backupHead{Level: 1}, nil), "it can not be read"},
		"a head that is none": {sealed(backupMagic, "x", nil), "its head can not be read"},
	} {
		if _, _, err := readBackup(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestBackupTakesThePlaceOfABackupOnly(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"backup":  {string(backupOf(t, false)), true},
		"later":   {"pen backup 2\n", true},
		"empty":   {"", true},
		"ballot":  {strings.Repeat("\x01", 512), false},
		"short":   {"{}", false},
		"missing": {"", true},
	} {
		path := filepath.Join(dir, name)
		if name != "missing" {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var said bytes.Buffer
		solo, err := cluster.OpenSolo("", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{state: solo, log: slog.New(slog.DiscardHandler)}
		d.local.Store(&config.Local{DataDir: dir})
		w := bufio.NewWriter(&said)
		err = d.backupWord(t.Context(), question{Statement: &config.Statement{Args: []config.Value{{Text: "backup"}, {Text: name}}}, w: w})
		w.Flush()
		b, _ := os.ReadFile(path)
		if c.ok {
			if err != nil || !bytes.HasPrefix(b, []byte(backupMagic)) {
				t.Errorf("%s: %v, %q", name, err, said.String())
			}
			continue
		}
		if want := path + " is there and is no backup, so it stays: give another name, or remove it"; !strings.Contains(said.String(), want) || string(b) != c.text {
			t.Errorf("%s: said %q, want %q; the file has %d bytes", name, said.String(), want, len(b))
		}
	}
}

func FuzzBackup(f *testing.F) {
	f.Add(backupOf(f, true))
	f.Add(sealed(backupMagic, backupHead{Level: 1}, nil))
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, v, err := readBackup(b)
		if (v == nil) != (err != nil) {
			t.Fatalf("view %v and error %v", v, err)
		}
		// The sum is no secret: what is behind it is looked at as well.
		if body, ok := bytes.CutPrefix(b, []byte(backupMagic)); ok && len(body) > sha256.Size {
			body = b[:len(b)-sha256.Size]
			sum := sha256.Sum256(body)
			_, _, _ = readBackup(append(bytes.Clone(body), sum[:]...))
		}
	})
}

func TestKnownClientsThatFit(t *testing.T) {
	m := state.New()
	var visits []state.Visit
	for i := range 10 {
		visits = append(visits, state.Visit{Client: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Server: state.None, Ago: uint32(i)})
	}
	m.Apply(state.Command{Time: 100_000, Ops: []state.Op{state.Visits{Service: m.View().Services[0].ID, Clients: visits}}})
	ops, taken, left := knownClients(m.View(), 3*clientBytes(visits[0].Client))
	if taken != 3 || left != 7 || len(ops) != 1 {
		t.Fatalf("got %v, %d taken, %d left", ops, taken, left)
	}
	for i, v := range ops[0].(state.SetClients).Clients {
		if v != visits[2-i] { // the oldest of the latest first
			t.Errorf("%d: got %v, want %v", i, v, visits[2-i])
		}
	}
}
