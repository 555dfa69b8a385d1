//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What people do to machines and to the list of them takes a while, and is checked
// on the way: the cluster is well before they go on.

// spoil makes a disk read-only until somebody repairs it, with the program ended.
func (p *play) spoil(_ strike, n int) (func() error, error) {
	node := p.Nodes[n]
	err := p.world.alter(node.ReadOnly, func() { p.world.nodes[n].sure = false })
	return func() error {
		again, err := p.end(n, func() { node.Signal(syscall.SIGKILL) })
		return errors.Join(err, node.Repair(), again())
	}, err
}

// rename gives the interface of the address another name: all is well under that,
// too, and nobody has to be told.
func (p *play) rename(_ strike, n int) (func() error, error) {
	err := p.renamed(n, "eth0", "lan0")
	if err == nil {
		err = p.well()
	}
	return func() error { return p.renamed(n, "lan0", "eth0") }, err
}

func (p *play) renamed(n int, from, to string) error {
	return p.world.alter(func() error { return p.Nodes[n].Rename(from, to) }, func() { p.world.nodes[n].sure = false })
}

// remake takes the interface of the address away, and makes another one of that name.
func (p *play) remake(_ strike, n int) (func() error, error) {
	err := p.world.alter(p.Nodes[n].Unmake, func() {
		p.world.nodes[n].linked, p.world.nodes[n].sure = false, false
	})
	return func() error {
		return p.world.alter(p.Nodes[n].Remake, func() { p.world.nodes[n].linked = true })
	}, err
}

// unlist takes a node out of the list of peers by a new file, and puts it back. It
// is started again then: it was told to stay out.
func (p *play) unlist(_ strike, n int) (func() error, error) {
	err := p.world.alter(func() error {
		return errors.Join(p.relist(n, strings.Replace(p.Config, " "+p.Nodes[n].Addr.String(), "", 1)), p.without(n))
	}, func() { p.world.nodes[n].sure = false })
	return func() error {
		return errors.Join(p.world.alter(func() error { return p.relist(n, p.Config) }, func() {}), p.restart(n))
	}, err
}

// relist gives the other nodes a file, which each of them reads.
func (p *play) relist(n int, text string) error {
	for _, i := range p.rest(n) {
		if err := os.WriteFile(filepath.Join(p.Nodes[i].Dir, "pen.cfg"), []byte(text), 0o644); err != nil {
			return err
		}
		if err := p.persist([]int{i}, "reload"); err != nil {
			return err
		}
	}
	return nil
}

// without waits until the other nodes are the cluster.
func (p *play) without(n int) error {
	return p.until(p.rest(n), func(s status) bool { return s.Quorum && s.Voters == 2 && s.Living == 2 })
}

// rest are all nodes but one.
func (p *play) rest(n int) []int {
	return slices.DeleteFunc(p.all(), func(i int) bool { return i == n })
}

func (p *play) restart(n int) error {
	again, err := p.stop(strike{}, n)
	return errors.Join(err, again())
}

// remove takes a node out by the word for it. Started again, it comes back.
func (p *play) remove(_ strike, n int) (func() error, error) {
	err := p.world.alter(func() error {
		return errors.Join(p.persist(p.rest(n), "cluster", "remove", p.Nodes[n].Name), p.without(n))
	}, func() { p.world.nodes[n].sure = false })
	return func() error { return p.restart(n) }, err
}

// recover ends both other nodes for good, and begins anew with what the holder has,
// which is all that was agreed on. The others come back with nothing; every second
// time they come as they were before that, and are refused.
func (p *play) recover(s strike, n int) (func() error, error) {
	before, lost := p.statuses()[n].Generation, p.rest(n)
	later := func(s status) bool { return s.Generation > before && s.Voters == 1 && s.Quorum }
	errs := []error{p.endAll(lost)}
	errs = append(errs, p.world.alter(func() error { return p.recoverOn(n, later) }, func() {}))
	if s.draw%2 == 0 {
		errs = append(errs, p.meet(n, lost, later), p.endAll(lost))
	}
	return func() error {
		for _, i := range lost {
			if err := p.Nodes[i].Wipe(); err != nil {
				return err
			}
		}
		return p.start(lost...)
	}, errors.Join(errs...)
}

// recoverOn says it until it has happened: the answer may have come too late.
func (p *play) recoverOn(n int, done func(status) bool) (err error) {
	for end := time.Now().Add(wellTime); time.Now().Before(end); time.Sleep(50 * ms) {
		if _, err = p.ask(context.Background(), n, "cluster", "recover", "shop"); err == nil || done(p.statuses()[n]) {
			return nil
		}
	}
	return fmt.Errorf("recover on %s: %w", p.Nodes[n].Name, err)
}

// meet lets nodes come back as they were before the recovery. When they have heard
// of it they take no change. Until then they can not know, and may be a majority.
func (p *play) meet(n int, lost []int, later func(status) bool) error {
	p.writer.pause()
	defer p.writer.start()
	err := errors.Join(p.start(lost...), p.until([]int{n}, later), p.until(lost, func(s status) bool { return s.Out != "" }))
	for _, i := range lost {
		if text, e := p.ask(context.Background(), i, barrier, "1"); e == nil {
			err = errors.Join(err, fmt.Errorf("%s is from before the recovery, and takes a change: %q", p.Nodes[i].Name, text))
		}
	}
	return err
}

func (p *play) endAll(nodes []int) error {
	var errs []error
	for _, i := range nodes {
		_, err := p.end(i, func() { p.Nodes[i].Signal(syscall.SIGKILL) })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// persist gives a command to these nodes in turn until one carries it out.
func (p *play) persist(nodes []int, words ...string) (err error) {
	for end := time.Now().Add(wellTime); time.Now().Before(end); time.Sleep(50 * ms) {
		for _, n := range nodes {
			if _, err = p.ask(context.Background(), n, words...); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
}

// until waits for what all these nodes say.
func (p *play) until(nodes []int, ok func(status) bool) error {
	var all []status
	for end := time.Now().Add(wellTime); time.Now().Before(end); time.Sleep(50 * ms) {
		all = p.statuses()
		if !slices.ContainsFunc(nodes, func(n int) bool { return all[n].err != nil || !ok(all[n]) }) {
			return nil
		}
	}
	return fmt.Errorf("it does not come to what was asked for: %+v", all)
}
