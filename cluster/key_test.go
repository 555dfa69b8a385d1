package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func testKey(seed byte) Key {
	var k Key
	for i := range k {
		k[i] = seed + byte(i)
	}
	return k
}

func TestKeyFile(t *testing.T) {
	k := testKey(1)
	hexed, based := hex.EncodeToString(k[:]), base64.StdEncoding.EncodeToString(k[:])
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		err           string // empty: the key
	}{
		{name: "hexadecimal", content: hexed + "\n", mode: 0o600},
		{name: "upper case, no newline", content: strings.ToUpper(hexed), mode: 0o400},
		{name: "base64", content: based + "\n", mode: 0o600},
		{name: "white space", content: "\n " + hexed + " \r\n\n", mode: 0o600},
		{name: "the group reads", content: hexed, mode: 0o640},
		{name: "everybody reads", content: hexed, mode: 0o604, err: "mode 0604 lets others at it: chmod 0600"},
		{name: "everybody writes", content: hexed, mode: 0o602, err: "mode 0602"},
		{name: "the group writes", content: hexed, mode: 0o620, err: "mode 0620"},
		{name: "empty", content: " \n", mode: 0o600, err: "no key in it"},
		{name: "short", content: hexed[:62], mode: 0o600, err: "62 characters are no key: 64 hexadecimal digits or 44 of base64 are"},
		{name: "two keys", content: hexed + "\n" + hexed, mode: 0o600, err: "129 characters are no key"},
		{name: "other letters", content: strings.Repeat("xy", 32), mode: 0o600, err: "neither hexadecimal digits nor base64"},
		{name: "base64 of 33 bytes", content: strings.Repeat("A", 44), mode: 0o600, err: "neither hexadecimal digits nor base64"},
		{name: "a novel", content: strings.Repeat("a", 1<<16), mode: 0o600, err: "too long for a key"},
		{name: "zeros", content: strings.Repeat("0", 64), mode: 0o600, err: "equal bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if c.mode&0o077 != 0 && runtime.GOOS == "windows" {
				t.Skip("no modes here")
			}
			got, err := ReadKey(path)
			if c.err == "" {
				if err != nil || got != k {
					t.Fatalf("got %x, %v, want %x", got[:], err, k[:])
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want %q and the path", err, c.err)
			}
			if len(c.content) > 8 && strings.Contains(err.Error(), c.content[:8]) {
				t.Fatalf("the error shows the content: %v", err)
			}
		})
	}
}

func TestKeyFileOfAnotherKind(t *testing.T) {
	if _, err := ReadKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: got %v", err)
	}
	if _, err := ReadKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
}

func TestKeyIsWrittenAsItIsRead(t *testing.T) {
	k := GenerateKey()
	var b bytes.Buffer
	if n, err := k.WriteTo(&b); err != nil || n != 65 {
		t.Fatalf("got %d, %v", n, err)
	}
	got, err := ParseKey(b.Bytes())
	if err != nil || got != k {
		t.Fatalf("got %v, want the key", err)
	}
	if k == GenerateKey() {
		t.Fatal("two keys are equal")
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	k := testKey(0xa0)
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d"} {
		fmt.Fprintf(&b, verb+"\n", k)
		fmt.Fprintf(&b, verb+"\n", struct{ Key Key }{k})
		fmt.Fprintf(&b, verb+"\n", &k)
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", k, "config", WireConfig{Key: k})
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "key", k, "config", WireConfig{Key: k})
	j, err := json.Marshal(struct{ Key Key }{k})
	if err != nil {
		t.Fatal(err)
	}
	b.Write(j)
	for _, bad := range []string{"a0a1a2", "A0A1A2", "160 161", "160,161", "0xa0"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("%q in\n%s", bad, b.String())
		}
	}
}

// What is derived is part of the protocol: a release that derives something else
// can not talk to the one before.
func TestDerivedSecretsStay(t *testing.T) {
	k := testKey(1)
	for _, c := range []struct{ name, got, want string }{
		{"label", k.label(), "pen-20c6d6816d7a7ea47e418a2a32fdb178"},
		{"gossip", hex.EncodeToString(k.gossip("shop")), "9636411c1d34431171523faecd92044a61c75c7c8e7dfee8ad85b810170775b0"},
		{"authority", hex.EncodeToString(k.authority()), "286926e55281fc241c519303d8bf58050f41ca2c08152b1dc6c222c1b08c0545"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	if bytes.Equal(k.gossip("a"), k.gossip("b")) || bytes.Equal(k.gossip("a"), testKey(2).gossip("a")) {
		t.Error("two clusters have one gossip key")
	}
}

func FuzzParseKey(f *testing.F) {
	k := testKey(1)
	f.Add([]byte(hex.EncodeToString(k[:]) + "\n"))
	f.Add([]byte(base64.StdEncoding.EncodeToString(k[:])))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := k.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if again, err := ParseKey(out.Bytes()); err != nil || again != k {
			t.Fatalf("read %q, wrote %q, read %v", b, out.Bytes(), err)
		}
	})
}
