package state

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// Snapshot is the state at one moment. While it has not been released the
// machine copies what it changes, 40 KiB at a time.
type Snapshot struct {
	view   *View
	tables []frozenTable // of the services, in their order
	once   sync.Once
}

// frozenTable is a client table at one moment.
type frozenTable struct {
	table   *Table
	pages   frozen
	newest  link
	size    uint64
	horizon uint32
}

// The kinds of blocks of a snapshot, in the order in which they come.
const (
	blockHead     = 'h' // index, time, services, seed
	blockSettings = 's' // an encoded command that makes some of the settings
	blockTable    = 't' // begins the table of the next service
	blockClients  = 'c' // clients of the table, the most recent first
)

// Snapshot returns the state as it is now. It takes some microseconds, locks
// nothing and does not depend on how the state is used meanwhile. The caller
// releases it.
func (m *Machine) Snapshot() *Snapshot {
	s := &Snapshot{view: m.View()}
	for _, v := range s.view.Services {
		t := v.clients
		s.tables = append(s.tables, frozenTable{
			table: t, pages: t.pages.freeze(), newest: t.newest,
			size: uint64(t.size.Load()), horizon: t.horizon.Load(),
		})
	}
	return s
}

// Release ends the snapshot's claim on the state. It may be called by any
// goroutine, and again, but not beside WriteTo.
func (s *Snapshot) Release() {
	s.once.Do(func() {
		for _, t := range s.tables {
			t.table.pages.release()
		}
		s.tables = nil
	})
}

// Index returns the number of the last command in the snapshot.
func (s *Snapshot) Index() uint64 { return s.view.Index }

// WriteTo writes the snapshot in the form that Restore reads. It may run beside
// anything that the machine does, but not after Release.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	bw := newBlockWriter(w)
	s.writeHead(bw)
	if err := s.writeSettings(bw); err != nil {
		return bw.n, err
	}
	for i := range s.tables {
		s.tables[i].write(bw)
	}
	bw.block(nil)
	return bw.n, bw.err
}

func (s *Snapshot) writeHead(w *blockWriter) {
	c := &coder{buf: []byte{blockHead}}
	h := headOf(s.view)
	h.code(c)
	w.block(c.buf)
}

// writeSettings writes the settings as commands that make them.
func (s *Snapshot) writeSettings(w *blockWriter) error {
	ops := append(settingsOf(s.view), marksOf(s.view)...)
	for part := range slices.Chunk(ops, 1000) {
		b, err := Command{Ops: part}.Append([]byte{blockSettings})
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		w.block(b)
	}
	return nil
}

// settingsOf returns what makes the settings of a view in which the services
// are already there, but new.
func settingsOf(v *View) []Op {
	bare := &View{}
	for _, s := range v.Services {
		bare.Services = append(bare.Services, &Service{Name: s.Name, Settings: Defaults()})
	}
	return Diff(bare, v)
}

func marksOf(v *View) []Op {
	var ops []Op
	for _, s := range v.Services {
		for i := Abuse; i < len(s.Servers); i++ {
			if server := s.Server(i); server != nil && server.Mark != 0 {
				ops = append(ops, SetServer{s.Name, i, FieldMark, Server{Mark: server.Mark}})
			}
		}
	}
	return ops
}

func (t *frozenTable) write(w *blockWriter) {
	c := &coder{buf: []byte{blockTable}}
	c.uint32(&t.horizon)
	c.uint64(&t.size, MaxClients)
	w.block(c.buf)

	c.buf = append(c.buf[:0], blockClients)
	var last uint32
	for at := t.newest; at != 0; {
		r, o := t.pages.at(at.slot())
		e := row{slot: at.slot(), client: r.key().addr(), server: r.data.server(), used: r.data.used()}
		e.code(c, &last)
		if len(c.buf) > blockSize-64 {
			w.block(c.buf)
			c.buf = c.buf[:1]
		}
		at = o.older
	}
	if len(c.buf) > 1 {
		w.block(c.buf)
	}
}

// WriteSettings writes the snapshot without its clients, in the same form.
func (s *Snapshot) WriteSettings(w io.Writer) (int64, error) {
	bare := &Snapshot{view: s.view, tables: make([]frozenTable, len(s.view.Services))}
	return bare.WriteTo(w)
}
