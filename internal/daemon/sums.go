package daemon

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"pen/state"
)

// sums are a short form of the replicated state: nodes that have carried out the
// same changes have the same ones. They are not of one moment if changes arrive while
// they are taken.
type sums struct {
	Changes  uint64 // commands applied
	Settings [8]byte
	Clients  int
	Table    uint64
}

// sumsOf walks through all tables: a second for millions of clients.
func sumsOf(v *state.View) (sums, error) {
	d := sums{Changes: v.Index}
	settings, err := state.Command{Ops: state.Ops(v)}.Append(nil)
	if err != nil {
		return d, fmt.Errorf("digest of the settings: %w", err)
	}
	copy(d.Settings[:], sum(settings))
	h := sha256.New()
	for _, s := range v.Services {
		for e := range s.Clients().All() {
			d.Clients++
			d.Table += clientSum(h, s.Name, e)
		}
	}
	return d, nil
}

func sum(b []byte) []byte {
	all := sha256.Sum256(b)
	return all[:]
}

// clientSum is added up, so that the order of the slots does not matter: it is
// another in a state that was restored.
func clientSum(h hash.Hash, service string, e state.Entry) uint64 {
	h.Reset()
	fmt.Fprintf(h, "%s %s %d %d", service, e.Client, e.Server, e.Used)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// writeDigest answers `cluster digest`.
func writeDigest(v *state.View, w *bufio.Writer) error {
	d, err := sumsOf(v)
	if err != nil {
		return refuse(w, err)
	}
	_, err = fmt.Fprintf(w, "changes %d settings %x clients %d table %016x\n", d.Changes, d.Settings, d.Clients, d.Table)
	return err
}
