//go:build linux

package main

type known struct{ *setup }

func newKnown(s *setup) *known { return &known{s} }
func (k *known) close()        {}
func (k *known) tasks() []task { return nil }
