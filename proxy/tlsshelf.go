package proxy

import (
	queue "container/list"
	"errors"
	"fmt"
	"os"
	"sync"
)

// shelfMost is how many certificates of names are kept at once.
const shelfMost = 1024

// shelf keeps the certificates of names. The one that was asked for least
// recently goes when there are too many. Names without a certificate are not in it,
// so clients who make names up push nobody out.
type shelf struct {
	warned pace // of certificates that are no good

	mu    sync.Mutex // guards the rest
	items map[string]*queue.Element
	order queue.List // of *shelved, the last asked for first
}

type shelved struct {
	name string
	kept *kept
}

func (s *shelf) get(name string) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	el := s.items[name]
	if el == nil {
		return nil
	}
	s.order.MoveToFront(el)
	return el.Value.(*shelved).kept
}

func (s *shelf) put(name string, k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items == nil {
		s.items = map[string]*queue.Element{}
	}
	s.remove(s.items[name])
	s.items[name] = s.order.PushFront(&shelved{name, k})
	if s.order.Len() > shelfMost {
		s.remove(s.order.Back())
	}
}

func (s *shelf) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(s.items[name])
}

// remove takes an item out, if there is one. The caller holds mu.
func (s *shelf) remove(el *queue.Element) {
	if el != nil {
		delete(s.items, s.order.Remove(el).(*shelved).name)
	}
}

// all returns what is on the shelf.
func (s *shelf) all() map[string]*kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]*kept, len(s.items))
	for name, el := range s.items {
		all[name] = el.Value.(*shelved).kept
	}
	return all
}

func isDirectory(name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return pathError(name, err)
	case !info.IsDir():
		return fmt.Errorf("read %s: %w", name, errors.New("is no directory"))
	}
	return nil
}
