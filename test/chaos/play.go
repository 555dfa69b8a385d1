//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pen/internal/control"
	"pen/test/lab"
)

// clients is how many look on. One comes every 5 ms.
const clients = 200

// play is an episode of a plan on a cluster of its own.
type play struct {
	*lab.Lab
	*lab.Cluster
	episode episode
	watch   *lab.Watch
	writer  *writer
	world   *world
	judge   *judge
	six     *six // nil: there is no IPv6
	tally   *tally
	say     func(format string, args ...any)

	cutting sync.Mutex // guards cuts, and the network's
	cuts    map[int][]lab.Cut
}

// registers is a service that nobody uses, but for its settings.
const registers = "service regs\nlisten 81\nserver 0 address 10.0.1.1 port 81\n"

// gateway is the clients' router. Two nodes ask it whether they are on the network.
const gateway = "10.0.0.100"

// begin builds the network and waits until the cluster serves all clients.
func begin(bin string, limit time.Duration, e episode, t *tally, say func(string, ...any)) (p *play, err error) {
	l, err := lab.New(lab.Config{Nodes: e.lineup.nodes()})
	if err != nil {
		return nil, err
	}
	p = &play{Lab: l, episode: e, tally: t, say: say, cuts: map[int][]lab.Cut{}}
	if err := p.prepare(bin, limit); err != nil {
		return nil, errors.Join(err, p.leave())
	}
	return p, nil
}

// leave ends all that looks on and writes, and removes the network.
func (p *play) leave() error {
	if p.writer != nil {
		p.writer.pause()
	}
	if p.six != nil {
		p.six.end()
	}
	return p.Close()
}

// prepare makes the nodes a cluster. Without the hash only the replicated table
// tells where a client belongs.
func (p *play) prepare(bin string, limit time.Duration) (err error) {
	lines := []string{"no hash", "timing lan", strings.TrimSuffix(registers, "\n")}
	if p.episode.lineup == pair {
		lines = append(lines, "gateway "+gateway)
	}
	if p.episode.dual() {
		lines = append(lines, "vip "+lab.VIP6.String()+"/64")
		if err := p.Dual(); err != nil {
			return err
		}
	}
	if p.Cluster, err = p.NewCluster(bin, lines...); err != nil {
		return err
	}
	last := p.Nodes[len(p.Nodes)-1]
	if p.episode.lineup == witness {
		text := strings.Replace(p.Config, " "+last.Addr.String()+"\n", " "+last.Addr.String()+":witness\n", 1)
		for _, n := range p.Nodes {
			if err := os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	for _, n := range p.Nodes {
		if err := n.Disk(); err != nil {
			return err
		}
	}
	p.world = newWorld(p.episode.lineup)
	if err := p.Start(p.Nodes...); err != nil {
		return err
	}
	if p.watch, err = p.Watch(clients); err != nil {
		return err
	}
	p.judge = &judge{limit: limit, since: time.Now()}
	if p.episode.dual() {
		if p.six, err = discover(p.Lab, limit); err != nil {
			return err
		}
	}
	p.writer = newWriter(p)
	if err := p.settle(); err != nil {
		return err
	}
	p.writer.start()
	return nil
}

// settle waits until the cluster is well and every client was there.
func (p *play) settle() error {
	if err := p.well(); err != nil {
		return err
	}
	time.Sleep((clients + 20) * 5 * ms)
	return p.writer.open()
}

// forget is for a cluster that begins anew.
func (p *play) forget() { p.judge.forget() }

// round lets the faults of a round happen, and says what must not have been.
func (p *play) round(r round) (wrong []string) {
	from := time.Now()
	wrong = p.strikeAll(r)
	healed := time.Now()
	if err := p.well(); err != nil {
		p.look(r, from, healed, time.Now(), &wrong)
		return append(wrong, err.Error(), notWell)
	}
	well := time.Now()
	if r.strikes[0].kind.anew {
		if err := p.settle(); err != nil {
			return append(wrong, err.Error())
		}
	}
	wrong = append(wrong, p.equal()...)
	wrong = append(wrong, p.writer.close()...)
	p.look(r, from, healed, well, &wrong)
	p.writer.start()
	return wrong
}

// notWell ends an episode.
const notWell = "the episode ends here"

// look judges what was seen since the last look.
func (p *play) look(r round, from, healed, well time.Time, wrong *[]string) {
	to := time.Now()
	s := p.watch.Sight(p.judge.since, to)
	dues := p.world.dues(p.judge.since, to)
	v := p.judge.look(s, dues, p.world.excuses(), to)
	*wrong = append(*wrong, v.wrong...)
	if p.six != nil {
		*wrong = append(*wrong, p.six.look(p.Lab, dues, to, &v)...)
	}
	p.tally.round(r, v, from, healed, well)
	p.say("         %s", v.summary(from, healed, well))
}

// strikeAll begins and ends the faults, each at its time.
func (p *play) strikeAll(r round) (wrong []string) {
	roles := p.roles()
	began := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range r.strikes {
		wg.Go(func() {
			time.Sleep(time.Until(began.Add(s.at)))
			n := roles[s.role]
			p.say("%s  fault %d: %s%s", time.Now().Format("15:04:05.000"), s.number, s, p.named(s.role, n))
			if err := p.strike(s, n); err != nil {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, fmt.Sprintf("fault %d: %v", s.number, err))
			}
		})
	}
	wg.Wait()
	return wrong
}

func (p *play) strike(s strike, n int) error {
	undo, err := s.kind.do(p, s, n)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.kind.name, err)
	}
	if undo == nil {
		return err
	}
	time.Sleep(s.lasts)
	if e := undo(); e != nil {
		err = errors.Join(err, fmt.Errorf("the end of %s: %w", s.kind.name, e))
	}
	return err
}

func (p *play) named(r role, n int) string {
	if r == nobody {
		return ""
	}
	return " on " + p.Nodes[n].Name
}

// roles are the nodes by what they are now.
func (p *play) roles() [4]int {
	is := max(p.owner(), 0)
	roles := [4]int{-1, is}
	next := second
	for n := range p.Nodes {
		if n != is {
			roles[next] = n
			next++
		}
	}
	return roles
}

// owner is the node that answers for the address; -1: none does.
func (p *play) owner() int {
	s := p.watch.Sight(time.Now().Add(-300*ms), time.Now())
	for i := len(s.Answers) - 1; i >= 0; i-- {
		for n, node := range p.Nodes {
			if a := s.Answers[i]; len(a.Nodes) > 0 && a.Nodes[0] == node.Name {
				return n
			}
		}
	}
	return -1
}

// ask gives a command to a node.
func (p *play) ask(ctx context.Context, n int, words ...string) (string, error) {
	reply, err := control.Client{Addr: p.Control(p.Nodes[n]), Patience: 3 * time.Second}.Ask(ctx, words...)
	switch {
	case err != nil:
		return "", err
	case control.Refused(reply):
		return "", errors.New(strings.TrimSpace(string(reply)))
	}
	return string(reply), nil
}

// insist gives a command until a node carries it out.
func (p *play) insist(words ...string) error { return p.persist(p.all(), words...) }

// keep copies what the nodes have said.
func (p *play) keep(dir string) error {
	for _, n := range p.Nodes {
		logs, err := filepath.Glob(filepath.Join(n.Dir, "*.log"))
		if err != nil {
			return err
		}
		to := filepath.Join(dir, n.Name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, log := range logs {
			text, err := os.ReadFile(log)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, filepath.Base(log)), text, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
