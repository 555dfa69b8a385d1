package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// ID is 128 random bits: of a node (as long as its data directory lives), of a
// process, of a formation. The zero ID is none.
type ID [16]byte

// NewID makes an ID that nobody else has.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never returns an error
	return id
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("%d characters are no id", len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, errors.New("not an id")
	}
	if id.String() != s {
		return ID{}, errors.New("not an id") // one id, one way to write it
	}
	return id, nil
}

// String gives 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells that there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText makes documents and logs show what String shows.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// Purpose is what a connection is for.
type Purpose uint8

// The purposes. A connection has one from its first byte to its last.
const (
	PurposeRaft    Purpose = 1 // log, votes, heartbeats
	PurposeGossip  Purpose = 2 // streams of memberlist
	PurposeForward Purpose = 3 // changes on their way to the leader, figures on their way back
	PurposeRelease Purpose = 4 // "the address is free", see Stream.StepOut
	PurposeForm    Purpose = 5 // who are you, promises, joining

	// purposeProbe asks who is there and ends. Nobody accepts it.
	purposeProbe Purpose = 6
)

var purposes = [...]string{
	PurposeRaft: "raft", PurposeGossip: "gossip", PurposeForward: "forward", PurposeRelease: "release", PurposeForm: "form", purposeProbe: "probe",
}

func (p Purpose) String() string {
	if int(p) < len(purposes) && purposes[p] != "" {
		return purposes[p]
	}
	return "purpose " + strconv.Itoa(int(p))
}

func (p Purpose) known() bool { return p >= PurposeRaft && p <= purposeProbe }

// ProtocolMin is the oldest wire protocol that this program speaks. Two nodes use
// the newest that both speak, see Stream.Protocol.
const ProtocolMin uint16 = 1

const (
	// NameMax is how long the name of a cluster or a node may be, in bytes.
	NameMax = 64

	helloMagic = "pen\x01"
	helloHead  = len(helloMagic) + 2
	helloMax   = 1024 // without the head: room for fields of later versions
	detailMax  = 200
)

// Hello is what the two ends of a connection tell each other about themselves
// before anything else.
type Hello struct {
	Min, Max     uint16 // protocols spoken
	Cluster      string
	Formation    ID     // of the cluster as it was formed; zero: not part of one yet
	Generation   uint64 // raised by a recovery, see nextGeneration
	Node         ID
	Boot         ID     // of the process
	Name         string // of the node, for people
	Addr         netip.AddrPort
	Purpose      Purpose
	Heartbeat    time.Duration // heartbeat timeout, in milliseconds on the wire
	Priority     int32
	Witness      bool
	StateVersion uint32 // the newest state level that it knows
	Level        uint32 // the state level in use, as far as it has heard; zero: none said
}

// Check tells whether a hello can be sent.
func (h Hello) Check() error {
	switch {
	case h.Min == 0 || h.Min > h.Max:
		return fmt.Errorf("protocols %d to %d", h.Min, h.Max)
	case h.Cluster == "" || !printable(h.Cluster):
		return fmt.Errorf("cluster name %q: 1 to %d printable bytes", h.Cluster, NameMax)
	case !printable(h.Name):
		return fmt.Errorf("node name %q: up to %d printable bytes", h.Name, NameMax)
	case h.Node.IsZero() || h.Boot.IsZero():
		return errors.New("no node id or boot id")
	case !h.Purpose.known():
		return errors.New(h.Purpose.String())
	case h.Heartbeat < 0 || h.Heartbeat > time.Hour:
		return fmt.Errorf("heartbeat timeout %s", h.Heartbeat)
	case h.Addr.Addr().Zone() != "":
		return fmt.Errorf("address %s has a zone, which means nothing elsewhere", h.Addr)
	}
	return nil
}

// printable tells that text can be logged and shown as it is.
func printable(s string) bool {
	if len(s) > NameMax || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// appendTo encodes the hello. Later versions append fields; the order of these
// stays for ever, so that versions that do not fit can tell each other so.
func (h Hello) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Min)
	b = binary.BigEndian.AppendUint16(b, h.Max)
	b = appendText(b, h.Cluster)
	b = append(b, h.Formation[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Generation)
	b = append(b, h.Node[:]...)
	b = append(b, h.Boot[:]...)
	b = appendText(b, h.Name)
	addr, _ := h.Addr.MarshalBinary() // has no error
	b = appendText(b, string(addr))
	b = append(b, byte(h.Purpose))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Heartbeat/time.Millisecond))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Priority))
	b = append(b, flag(h.Witness))
	b = binary.BigEndian.AppendUint32(b, h.StateVersion)
	return binary.BigEndian.AppendUint32(b, h.Level)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// decodeHello reads what appendTo wrote; what follows it is of a later version
// and passed over.
func decodeHello(b []byte) (Hello, error) {
	r := reader{b: b}
	h := Hello{Min: r.u16(), Max: r.u16(), Cluster: r.text(), Formation: r.id(), Generation: r.u64(), Node: r.id(), Boot: r.id(), Name: r.text()}
	if err := h.Addr.UnmarshalBinary([]byte(r.text())); err != nil {
		return Hello{}, errors.New("not an address")
	}
	h.Purpose = Purpose(r.u8())
	h.Heartbeat = time.Duration(r.u32()) * time.Millisecond
	h.Priority = int32(r.u32())
	h.Witness = r.u8() == 1
	h.StateVersion = r.u32()
	if len(r.b) > 0 { // the first version ends here
		h.Level = r.u32()
	}
	if r.short {
		return Hello{}, io.ErrUnexpectedEOF
	}
	return h, h.Check()
}

// reader takes fields off the front. After the end it gives zeros and says so.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return make([]byte, n) // n is at most 255
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte     { return r.take(1)[0] }
func (r *reader) u16() uint16  { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32  { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64  { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) id() ID       { return ID(r.take(16)) }
func (r *reader) text() string { return string(r.take(int(r.u8()))) }

// answer is what the accepting end says to a hello: its own, and whether it goes
// on. It is told even when it does not, so that both ends know what differs.
type answer struct {
	reason Reason // zero: welcome
	detail string
	hello  Hello
}

func (a answer) appendTo(b []byte) []byte {
	b = append(b, byte(a.reason))
	b = appendText(b, a.detail)
	return a.hello.appendTo(b)
}

func decodeAnswer(b []byte) (answer, error) {
	r := reader{b: b}
	a := answer{reason: Reason(r.u8()), detail: clean(r.text())}
	if r.short {
		return answer{}, io.ErrUnexpectedEOF
	}
	var err error
	a.hello, err = decodeHello(r.b)
	return a, err
}

// clean makes the words of a peer fit for a log line.
func clean(s string) string {
	if len(s) > detailMax {
		s = s[:detailMax]
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}

// writeFrame sends a hello or an answer in one piece.
func writeFrame(w io.Writer, body []byte) error {
	if len(body) > helloMax {
		return fmt.Errorf("hello of %d bytes", len(body))
	}
	b := append(make([]byte, 0, helloHead+len(body)), helloMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

var errNoHello = errors.New("not a hello")

// readFrame takes exactly one frame off r. It allocates nothing for a frame that
// is too long.
func readFrame(r io.Reader) ([]byte, error) {
	var head [helloHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return nil, errNoHello
	}
	n := int(binary.BigEndian.Uint16(head[len(helloMagic):]))
	if n > helloMax {
		return nil, fmt.Errorf("hello of %d bytes: %w", n, errNoHello)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// Reason says why a connection was refused.
type Reason uint8

// The reasons. Their numbers are on the wire.
const (
	WrongKey       Reason = 1  // the peer has another cluster key
	OtherCluster   Reason = 2  // the same key, another cluster's name
	OtherVersion   Reason = 3  // no protocol in common
	DuplicateNode  Reason = 4  // two live processes with one node id
	OtherFormation Reason = 5  // the same name, formed or recovered apart
	Itself         Reason = 6  // a node that called itself
	NotTLS         Reason = 7  // something else speaks there
	NoCertificate  Reason = 8  // TLS, but nobody we know
	BadHello       Reason = 9  // the key is right, the hello is not
	TooSlow        Reason = 10 // no hello in time
	TooMuch        Reason = 11 // more bytes than a handshake has
	TooMany        Reason = 12 // more connections than one peer may have
	Busy           Reason = 13 // nobody took the connection in time
	Closed         Reason = 14 // gone before it said who it is
	BadPacket      Reason = 15 // a packet that was not sealed with our key for our cluster

	reasonEnd Reason = 16
)

var reasons = [...]string{
	WrongKey: "wrong key", OtherCluster: "other cluster", OtherVersion: "incompatible version", DuplicateNode: "duplicate node id",
	OtherFormation: "other formation", Itself: "itself", NotTLS: "not tls", NoCertificate: "no certificate", BadHello: "bad hello", TooSlow: "too slow",
	TooMuch: "too much", TooMany: "too many", Busy: "busy", Closed: "closed", BadPacket: "bad packet",
}

func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r] != "" {
		return reasons[r]
	}
	return "reason " + strconv.Itoa(int(r))
}

// MarshalText makes documents and logs show what String shows.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// RefusedError is the error of Dial when the two ends found that they must not
// talk. Any other error means that the peer was not reached, see Wire.Dial.
type RefusedError struct {
	Reason Reason
	Detail string // what differs
	ByPeer bool   // it was the peer who refused
	Hello  Hello  // of the peer, if it came that far
}

func (e *RefusedError) Error() string {
	s := "refused"
	if e.ByPeer {
		s = "refused by the peer"
	}
	s += ": " + e.Reason.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// fits tells why a node must not talk to another, nil if it may. It sees only
// the two hellos.
func (h Hello) fits(peer Hello) *RefusedError {
	no := func(r Reason, format string, args ...any) *RefusedError {
		return &RefusedError{Reason: r, Detail: fmt.Sprintf(format, args...), Hello: peer}
	}
	switch {
	case h.Cluster != peer.Cluster:
		return no(OtherCluster, "ours %s, theirs %s", h.Cluster, peer.Cluster)
	case h.Max < peer.Min || peer.Max < h.Min:
		return no(OtherVersion, "ours %d to %d, theirs %d to %d", h.Min, h.Max, peer.Min, peer.Max)
	case max(h.StateVersion, 1) < peer.Level:
		return no(OtherVersion, "%s", h.tooOldFor(peer.Level))
	case max(peer.StateVersion, 1) < h.Level:
		return no(OtherVersion, "%s", peer.tooOldFor(h.Level))
	case h.Node == peer.Node && h.Boot == peer.Boot:
		return no(Itself, "")
	case h.Node == peer.Node:
		return no(DuplicateNode, "%s is ours", peer.Node)
	case h.Formation.IsZero() || peer.Formation.IsZero():
		return nil
	case h.Formation != peer.Formation:
		return no(OtherFormation, "ours %s, theirs %s", h.Formation, peer.Formation)
	case h.Generation != peer.Generation:
		return no(OtherFormation, "%s", h.generations(peer))
	}
	return nil
}
