package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pen/internal/config"
	"pen/state"
)

// A backup is a line that says what it is, a line of JSON about it, a snapshot of
// the state, and the SHA-256 of all that.

const (
	backupName  = "pen backup " // of every format
	backupMagic = backupName + "1\n"
	backupMax   = 1 << 30 // bytes of a file that is read
	headMax     = 4 << 10
)

// backupHead is what a backup says of itself.
type backupHead struct {
	Cluster string      `json:"cluster"` // empty: of a node that stands alone
	Version string      `json:"version"` // of the program
	Time    time.Time   `json:"time"`
	Index   uint64      `json:"index"` // changes that were made until then
	Level   state.Level `json:"level"`
	Clients bool        `json:"clients"` // the known clients are in it
}

func (h backupHead) whose() string {
	if h.Cluster == "" {
		return "a node that stood alone"
	}
	return "cluster " + h.Cluster
}

func writeBackup(w io.Writer, h backupHead, snap *state.Snapshot) error {
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := fmt.Fprintf(out, "%s%s\n", backupMagic, head); err != nil {
		return err
	}
	write := snap.WriteSettings
	if h.Clients {
		write = snap.WriteTo
	}
	if _, err := write(out); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// readBackup reads what writeBackup has written, and nothing else.
func readBackup(b []byte) (h backupHead, v *state.View, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(backupMagic))
	switch {
	case !ok && bytes.HasPrefix(b, []byte(backupName)):
		if line, _, _ := bytes.Cut(b[:min(len(b), headMax)], []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
			return h, nil, errors.New("its line ends were changed on the way here, as when text is copied: take another copy, as it is")
		}
		return h, nil, errors.New("its format is newer than this program: restore it with a newer one")
	case !ok:
		return h, nil, errors.New("it is no backup of pen")
	}
	end := len(b) - sha256.Size
	if end < len(backupMagic) || sha256.Sum256(b[:end]) != [sha256.Size]byte(b[end:]) {
		return h, nil, errors.New("it is damaged: what is in it is not what was written; take another copy")
	}
	head, rest, _ := bytes.Cut(rest[:end-len(backupMagic)], []byte("\n"))
	if len(head) > headMax {
		return h, nil, errors.New("it is damaged: its head is too long")
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return h, nil, fmt.Errorf("its head can not be read: %w", err)
	}
	if h.Level > state.Newest {
		return h, nil, fmt.Errorf("it is of state level %d, written by version %s; this program knows up to %d: restore it with a newer one", h.Level, h.Version, state.Newest)
	}
	m := state.New()
	if err := m.Restore(bytes.NewReader(rest)); err != nil {
		return h, nil, fmt.Errorf("it can not be read: %w", err)
	}
	return h, m.View(), nil
}

// backupPath is where a file is: what has no whole path is in the data directory.
func (d *daemon) backupPath(name string) (string, error) {
	dir := d.local.Load().DataDir
	switch {
	case filepath.IsAbs(name):
		return name, nil
	case dir == "":
		return "", fmt.Errorf("%s: without a data_dir the whole path is needed", name)
	case !filepath.IsLocal(name):
		return "", fmt.Errorf("%s: give the whole path, or a name inside of the data_dir %s", name, dir)
	}
	return filepath.Join(dir, name), nil
}

func (d *daemon) backupWord(_ context.Context, q question) error {
	path, err := d.backupPath(q.word(1))
	if err != nil {
		return refuse(q.w, err)
	}
	if d.member != nil && !d.member.settled.Load() {
		return refuse(q.w, d.member.unsettled())
	}
	snap := d.state.Snapshot()
	defer snap.Release()
	v := d.state.View()
	h := backupHead{
		Cluster: d.local.Load().Cluster, Version: d.version, Time: time.Now().UTC().Truncate(time.Second),
		Index: snap.Index(), Level: v.Level(), Clients: q.word(2) == "clients",
	}
	if err := cmp.Or(d.ownFile(path), replaceable(path)); err != nil {
		return refuse(q.w, fmt.Errorf("backup: %w", err))
	}
	if err := config.SaveSecret(path, func(w io.Writer) error { return writeBackup(w, h, snap) }); err != nil {
		return refuse(q.w, err)
	}
	what := "settings"
	if h.Clients {
		what = "settings and known clients"
	}
	fmt.Fprintf(q.w, "%s of %s after %d changes are in %s\n", what, h.whose(), h.Index, path)
	d.log.Info("backup", "file", path, "clients", h.Clients, "by", q.by)
	return nil
}

func (d *daemon) restoreWord(ctx context.Context, q question) error {
	path, err := d.backupPath(q.word(1))
	if err != nil {
		return refuse(q.w, err)
	}
	text, err := d.restore(ctx, q.by, path, q.word(2) == "force")
	if err != nil {
		return refuse(q.w, fmt.Errorf("restore: %w", err))
	}
	fmt.Fprintln(q.w, text)
	return nil
}

// restore makes the settings, and the clients if they are in it, what a backup
// says, as one change.
func (d *daemon) restore(ctx context.Context, by, path string, force bool) (string, error) {
	b, err := readFile(path)
	if err != nil {
		return "", err
	}
	h, v, err := readBackup(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if mine := d.local.Load().Cluster; h.Cluster != mine && !force {
		return "", fmt.Errorf("%s is of %s, and this is %s: if that is meant, add the word force", path, h.whose(), backupHead{Cluster: mine}.whose())
	}
	have := d.state.View()
	ops := state.Diff(have, v)
	changes, clients, left := len(ops), 0, 0
	if h.Clients {
		if have.Level() < 2 && d.member != nil {
			return "", fmt.Errorf("%s: known clients can not be restored yet: %s", path, d.member.waits())
		}
		if have.Level() < 2 {
			ops = append(ops, state.SetLevel{Level: 2})
		}
		var known []state.Op
		settings, err := state.Command{Ops: ops}.Append(nil)
		if err != nil {
			return "", err
		}
		known, clients, left = knownClients(v, state.MaxCommand-len(settings)-headMax)
		ops = append(ops, known...)
	}
	what := "restore of " + path
	if h.Clients {
		what += fmt.Sprintf(": %d clients", clients)
	}
	by = what + ", " + by
	if err := d.propose(ctx, by[:min(len(by), state.MaxText/2)], ops, func(*config.Local) {}); err != nil {
		return "", err
	}
	text := fmt.Sprintf("restored what %s was after %d changes, %s: %d settings changed", h.whose(), h.Index, h.Time.Format(time.DateTime), changes)
	if h.Clients {
		text += fmt.Sprintf(", %d clients known", clients)
	}
	if left > 0 {
		text += fmt.Sprintf("; there was no room for the %d who came the longest ago", left)
	}
	d.log.Info("restored", "file", path, "changes", changes, "clients", clients, "left", left, "by", by)
	return text, nil
}

// replaceable refuses a file that a backup must not take the place of: a typing
// error must not cost the node its last vote, its key or its configuration.
func replaceable(path string) error {
	info, err := os.Stat(path) // opening a pipe would wait
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() == 0:
		return nil // nothing is lost, or saving refuses it
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(backupName))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(head) != backupName {
		return fmt.Errorf("%s is there and is no backup, so it stays: give another name, or remove it", path)
	}
	return nil
}

// readFile reads a regular file, up to the bound.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // opening a pipe would wait
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Size() > backupMax:
		return nil, fmt.Errorf("%s: %d bytes are more than %d", path, info.Size(), backupMax)
	}
	return os.ReadFile(path)
}

// clientBytes is the most that a known client takes in a command.
func clientBytes(a netip.Addr) int {
	const kind, server, ago, zone = 1, 2, 5, 2
	return kind + a.BitLen()/8 + zone + len(a.Zone()) + server + ago
}

// knownClients are operations that make the client tables of a view, as far as
// one command has room: who came last goes first. The time since the backup does not
// count: they are as old as they were then.
func knownClients(v *state.View, room int) (ops []state.Op, taken, left int) {
	for _, s := range v.Services {
		var all []state.Entry
		for e := range s.Clients().All() {
			all = append(all, e)
		}
		slices.SortStableFunc(all, func(a, b state.Entry) int { return int(a.Used - b.Used) })
		first := len(all)
		for first > 0 && room >= clientBytes(all[first-1].Client) {
			first--
			room -= clientBytes(all[first].Client)
		}
		all, left = all[first:], left+first
		taken += len(all)
		o := state.SetClients{Service: s.Name}
		for _, e := range all {
			ago := max(0, int64(v.Time-e.Used)/1000)
			o.Clients = append(o.Clients, state.Visit{Client: e.Client, Server: e.Server, Ago: uint32(min(ago, 1<<32-1))})
		}
		ops = append(ops, o)
	}
	return ops, taken, left
}
