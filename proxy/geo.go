package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// land is a country: its two letters as one number. 0 is nowhere.
type land uint16

func landOf(code string) land {
	if len(code) != 2 {
		return 0
	}
	return land(code[0])<<8 | land(code[1])
}

// String is the two letters.
func (l land) String() string {
	if l == 0 {
		return ""
	}
	return string([]byte{byte(l >> 8), byte(l)})
}

// maxAtlas bounds what is read. The databases of countries have some 10 MB, those of
// cities ten times as much.
const maxAtlas = 512 << 20

// lookAgain is how often a file is looked at for a change.
const lookAgain = time.Second

// atlas tells in which country an address is, from a database that every node has
// in a file of its own. The file is read whole: who copies a new one over it would
// change a mapped one under the reader. A file that is no good changes nothing.
type atlas struct {
	log      *slog.Logger
	book     atomic.Pointer[gazetteer] // nil: no country is known
	reads    atomic.Uint64             // files taken
	failures atomic.Uint64             // files that were no good

	mu   sync.Mutex // guards what follows; held while a file is read
	file edition    // in use
	next edition    // read for a change that is yet to come
}

// edition is what came of reading a file.
type edition struct {
	file  string     // empty: none
	stamp []stamp    // of the file when it was read
	book  *gazetteer // nil: it was no good
	err   error      // why
}

// gazetteer is a database that was read.
type gazetteer struct {
	reader *maxminddb.Reader
	lands  map[uintptr]land // by the place of the record
	made   time.Time
}

// land returns the country of an address. A nil atlas knows none.
func (a *atlas) land(addr netip.Addr) land {
	if a == nil {
		return 0
	}
	b := a.book.Load()
	if b == nil {
		return 0
	}
	r := b.reader.Lookup(addr)
	if !r.Found() {
		return 0
	}
	return b.lands[r.Offset()]
}

// prepare reads a file that use will be told of, and tells what is wrong with it.
func (a *atlas) prepare(file string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if file == "" || file == a.file.file {
		return nil
	}
	a.next = readEdition(file)
	return a.next.err
}

// use makes file the one to look into; if it was not read before, it is read now.
// The error tells why it is no good. Then the one before stays in force.
func (a *atlas) use(file string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.next
	a.next = edition{}
	switch {
	case file == a.file.file:
		return nil
	case file == "":
		a.file = edition{}
		a.book.Store(nil)
		return nil
	case file != next.file:
		next = readEdition(file)
	}
	return a.take(next)
}

// check looks whether the file has changed, and reads it if so.
func (a *atlas) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file.file == "" || sameStamps(a.file.stamp, stampsOf(a.file.file)) {
		return
	}
	if err := a.take(readEdition(a.file.file)); err != nil {
		a.log.Warn("the file of countries is no good, what was known before stays in force", "err", err)
		return
	}
	a.log.Info("countries were read again", "file", a.file.file, "made", a.file.book.made)
}

// take brings what was read into force. The caller holds mu.
func (a *atlas) take(e edition) error {
	a.file = e
	if e.err != nil {
		a.failures.Add(1)
		return e.err
	}
	a.reads.Add(1)
	a.book.Store(e.book)
	return nil
}

func readEdition(file string) edition {
	e := edition{file: file, stamp: stampsOf(file)} // the stamp first: what changes while it is read is seen the next time
	e.book, e.err = readGazetteer(file)
	return e
}

// keep looks after the file until ctx ends. It does so from here, and not when a
// client comes, because a file system may make one wait.
func (a *atlas) keep(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.check()
		}
	}
}

// GeoIPStats are the figures of the database of countries on this node.
type GeoIPStats struct {
	Known    bool   // there is one; without, no country matches
	Reads    uint64 // files taken into use
	Failures uint64 // files that were no good
}

// GeoIP returns the figures of the database of countries.
func (p *Proxy) GeoIP() GeoIPStats {
	a := p.atlas
	return GeoIPStats{a.book.Load() != nil, a.reads.Load(), a.failures.Load()}
}

// CheckGeoIP tells why a file is no database of countries.
func CheckGeoIP(file string) error {
	_, err := readGazetteer(file)
	return err
}

// readGazetteer reads a database. Every record is looked at, so that what can not be
// read is known now and not when a client comes; and only the countries of them are
// kept by their places, so that a look-up decodes nothing.
func readGazetteer(file string) (*gazetteer, error) {
	raw, err := readFile(file, maxAtlas)
	if err != nil {
		return nil, err
	}
	b, err := openGazetteer(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return b, nil
}

func openGazetteer(raw []byte) (b *gazetteer, err error) {
	reader, err := maxminddb.OpenBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("is no database of MaxMind's kind: %w", err)
	}
	b = &gazetteer{reader: reader, lands: map[uintptr]land{}, made: time.Unix(int64(reader.Metadata.BuildEpoch), 0)}
	known := false
	for r := range reader.Networks() {
		if err := r.Err(); err != nil {
			return nil, err
		}
		if _, there := b.lands[r.Offset()]; there {
			continue
		}
		at, err := countryOf(r)
		if err != nil {
			return nil, err
		}
		b.lands[r.Offset()] = at
		known = known || at != 0
	}
	if !known {
		return nil, errors.New("has no countries: take one of the kind GeoLite2-Country")
	}
	return b, nil
}

// countryOf returns the country of a record: where the address is used, or else
// where its owner is registered. MaxMind and DB-IP have the code within the country,
// IPinfo has it beside the name or in its place.
func countryOf(r maxminddb.Result) (land, error) {
	var record map[string]any
	if err := r.Decode(&record); err != nil {
		return 0, err
	}
	for _, key := range []string{"country", "registered_country", "country_code"} {
		code, ok := record[key].(string)
		if within, deeper := record[key].(map[string]any); deeper {
			code, ok = within["iso_code"].(string)
		}
		if at := landOf(code); ok && at != 0 {
			return at, nil
		}
	}
	return 0, nil
}
