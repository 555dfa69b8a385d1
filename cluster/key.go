package cluster

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// Key is what the nodes of a cluster share and nobody else knows. Whoever has it
// can join. It is never used itself: everything that protects something is
// derived from it, each for one purpose.
//
// A Key does not show its value when it is printed or logged.
type Key [32]byte

// keyFileMax is more than any way to write a key down takes.
const keyFileMax = 4096

// GenerateKey makes a new key.
func GenerateKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never returns an error
	return k
}

// ReadKey reads a key from a file that others can not read: 64 hexadecimal
// digits or 44 characters of base64, and nothing else but white space around it.
func ReadKey(path string) (Key, error) {
	k, err := readKey(path)
	if err != nil {
		return Key{}, fmt.Errorf("cluster key: %w", err)
	}
	return k, nil
}

func readKey(path string) (Key, error) {
	// Looked at before it is opened, too: opening a pipe waits for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, err
	}
	if !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return Key{}, err
	}
	if err := private(info); err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, keyFileMax+1))
	if err != nil {
		return Key{}, err
	}
	k, err := ParseKey(b)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// private tells whether only the owner, and at most the group's readers, get at
// a file.
func private(info os.FileInfo) error {
	if runtime.GOOS == "windows" {
		return nil // the mode says nothing there
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("mode %04o lets others at it: chmod 0600", mode)
	}
	return nil
}

// ParseKey reads a key from the content of a key file. The error never shows
// what was there.
func ParseKey(b []byte) (Key, error) {
	text := bytes.TrimSpace(b)
	var raw []byte
	var err error
	switch {
	case len(text) == 0:
		return Key{}, errors.New("no key in it")
	case len(b) > keyFileMax:
		return Key{}, errors.New("too long for a key")
	case len(text) == hex.EncodedLen(len(Key{})):
		raw, err = hex.DecodeString(string(text))
	case len(text) == base64.StdEncoding.EncodedLen(len(Key{})):
		raw, err = base64.StdEncoding.Strict().DecodeString(string(text))
	default:
		return Key{}, fmt.Errorf("%d characters are no key: 64 hexadecimal digits or 44 of base64 are", len(text))
	}
	if err != nil || len(raw) != len(Key{}) {
		return Key{}, errors.New("not a key: neither hexadecimal digits nor base64")
	}
	if bytes.Count(raw, raw[:1]) == len(raw) {
		return Key{}, errors.New("a key of equal bytes protects nothing")
	}
	return Key(raw), nil
}

// WriteTo writes the key as a line that ReadKey understands.
func (k Key) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, hex.EncodeToString(k[:])+"\n")
	return int64(n), err
}

// Format keeps the key out of every message, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(cluster key)") }

// MarshalText keeps the key out of structured logs and documents.
func (k Key) MarshalText() ([]byte, error) { return []byte("(cluster key)"), nil }

// derive makes a secret for one purpose. Two purposes, or two keys, give
// unrelated secrets.
func (k Key) derive(purpose string, size int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], nil, "pen cluster 1 "+purpose, size)
	if err != nil {
		panic("cluster: derive " + purpose + ": " + err.Error()) // only a size beyond 8 KiB
	}
	return b
}

// The purposes. What is exchanged in the open tells nothing about the others.
func (k Key) authority() []byte { return k.derive("certificate authority", 32) }

// gossip belongs to one cluster of those that use the key.
func (k Key) gossip(name string) []byte { return k.derive("gossip "+name, 32) }

const labelPrefix = "pen-"

// label is a name for the key that may be seen by anybody. Two nodes that differ
// in it have different keys.
func (k Key) label() string { return labelPrefix + hex.EncodeToString(k.derive("label", 16)) }
