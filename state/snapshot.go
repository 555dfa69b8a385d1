package state

import "io"

type Snapshot struct{}

func (m *Machine) Snapshot() *Snapshot                 { return &Snapshot{} }
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (s *Snapshot) Release()                           {}
func (m *Machine) Restore(r io.Reader) error           { return nil }
