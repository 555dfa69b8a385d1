//go:build linux

package lab

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Watch is what the observers have seen since it began. It is made by Lab.Watch.
type Watch struct {
	lab   *Lab
	began time.Time
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup

	resting atomic.Bool

	mu        sync.Mutex // guards the rest
	probes    []probe    // in the order of their starts
	answers   []answers  // in the order of time
	spoken    []Announcement
	sought    []time.Duration // when the clients' router asked for the address
	addresses []addressChange
	lateness  []lateness
	lost      int   // what found no room
	err       error // an observer that gave up
}

// How much an observer remembers. An hour's probes fit; what comes after that is counted only.
const (
	maxProbes  = 1 << 20
	maxAnswers = 1 << 16
	maxSpoken  = 1 << 16
)

// How often the observers look.
const (
	probeEvery = 5 * time.Millisecond
	askEvery   = 2 * time.Millisecond
)

// Watch begins to observe: so many clients fetch in turn, one every 5 ms, and the
// observer asks every 2 ms who has the virtual address. It ends with Stop, or
// with the lab.
func (l *Lab) Watch(clients int) (*Watch, error) {
	if clients < 1 || clients > MaxClients {
		return nil, fmt.Errorf("watch with %d clients: 1 to %d are possible", clients, MaxClients)
	}
	w := &Watch{lab: l, began: time.Now(), stop: make(chan struct{})}
	p, err := newProber(w, clients)
	if err != nil {
		return nil, fmt.Errorf("clients: %w", err)
	}
	a, err := newAsker(w)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("observer: %w", err)
	}
	listeners, err := w.listeners()
	if err != nil {
		p.close()
		a.close()
		return nil, err
	}
	w.wg.Go(p.run)
	w.wg.Go(a.run)
	for _, k := range listeners {
		w.wg.Go(k.run)
	}
	l.mu.Lock()
	l.watches = append(l.watches, w)
	l.mu.Unlock()
	return w, nil
}

// Stop ends the observation. Reports can still be made.
func (w *Watch) Stop() {
	w.once.Do(func() { close(w.stop) })
	w.wg.Wait()
}

// Rest lets no new client come, or lets them come again. Nobody is answered
// meanwhile.
func (w *Watch) Rest(rest bool) { w.resting.Store(rest) }

func (w *Watch) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func (w *Watch) now() time.Duration { return time.Since(w.began) }

// fail keeps the reason why an observer gave up.
func (w *Watch) fail(who string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, fmt.Errorf("%s: %w", who, err))
}

// lateness is a moment at which an observer did not come round in time: the lab
// itself did not run, and a gap seen then may be its own.
type lateness struct {
	at, by time.Duration
}

// worth is how late an observer has to be to speak of it.
const worth = 3 * time.Millisecond

// late notes how much too late a round begins.
func (w *Watch) late(by time.Duration) {
	if by < worth {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lateness) < maxSpoken {
		w.lateness = append(w.lateness, lateness{w.now(), by})
	}
}

// ticker is a descriptor that becomes readable at a steady pace.
func ticker(every time.Duration) (fd int, err error) {
	fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	pace := unix.NsecToTimespec(int64(every))
	return fd, unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: pace, Value: pace}, nil)
}

// ticks reads how often it was time since the last call.
func ticks(fd int) int {
	var b [8]byte
	if n, _ := unix.Read(fd, b[:]); n != len(b) {
		return 0
	}
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 // more than that is a day
}
