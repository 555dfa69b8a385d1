package state

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
)

// Option names one setting. The numbers are part of the encoding: a number is
// never reused.
type Option uint16

// The options of a service, and after them the global ones.
const (
	OptListen     Option = 1
	OptProtocol   Option = 2
	OptRoundRobin Option = 3
	OptHash       Option = 4
	OptWeight     Option = 5
	OptPrio       Option = 6
	OptStubborn   Option = 7
	OptTimeout    Option = 8
	OptBlacklist  Option = 9
	OptTracking   Option = 10
	OptClientsMax Option = 11
	OptConnMax    Option = 12
	OptPendingMax Option = 13
	OptAcceptMax  Option = 14
	OptBacklog    Option = 15
	OptIdle       Option = 16
	OptClientACL  Option = 17
	OptFastclose  Option = 18
	OptNoDelay    Option = 19
	OptKeepalive  Option = 20
	OptSource     Option = 21

	OptControlACL   Option = 22
	OptDrainTimeout Option = 23

	OptTLSCertificate Option = 24
	OptTLSKey         Option = 25
	OptTLSCAFile      Option = 26
	OptTLSCAPath      Option = 27
	OptTLSClient      Option = 28
	OptTLSCiphers     Option = 29
	OptTLSVersions    Option = 30
	OptTLSOCSP        Option = 31
	OptTLSSNIPath     Option = 32

	OptProxyOut    Option = 33
	OptProxyIn     Option = 34
	OptGeoIPDB     Option = 35
	OptClientList  Option = 36 // client_acl, if that list has a name
	OptControlList Option = 37 // control_acl, likewise
	OptResolve     Option = 38

	OptDirectLink  Option = 39
	OptTarpit      Option = 40
	OptHTTP        Option = 41
	OptForwarded   Option = 42
	OptTransparent Option = 43
	OptDummy       Option = 44
	OptIdlers      Option = 45
	OptProxyInList Option = 46 // proxy_in, if that list has a name
	OptTarpitList  Option = 47 // tarpit_acl, likewise
)

// maxConns bounds conn_max: beyond it a typing error is likelier than a wish.
const maxConns = 16_000_000

// option is one row of the table from which names, encoding, ranges, reading
// and writing of the settings come.
type option struct {
	name   string
	global bool
	kind   kind
	// low and high bound a number; outside is an error.
	low, high int
	// words name the values of a choice.
	words []string
	get   func(target) Value
	set   func(target, Value)
}

// target is what an option is read from and written to.
type target struct {
	*Settings
	*Global
}

var options = [...]option{
	OptListen: {
		name: "listen", kind: kindListen,
		get: func(t target) Value { return Bind(t.Listen) },
		set: func(t target, v Value) { t.Listen = v.listen },
	},
	OptProtocol:   choice("protocol", func(t target) *Protocol { return &t.Protocol }, "tcp", "udp"),
	OptRoundRobin: toggle("roundrobin", func(t target) *bool { return &t.RoundRobin }),
	OptHash:       choice("hash", func(t target) *Hash { return &t.Hash }, "off", "on", "compat"),
	OptWeight:     toggle("weight", func(t target) *bool { return &t.Weight }),
	OptPrio:       toggle("prio", func(t target) *bool { return &t.Prio }),
	OptStubborn:   toggle("stubborn", func(t target) *bool { return &t.Stubborn }),
	OptTimeout:    number("timeout", func(t target) *int { return &t.Timeout }, nil),
	OptBlacklist:  number("blacklist", func(t target) *int { return &t.Blacklist }, nil),
	OptTracking:   number("tracking", func(t target) *int { return &t.Tracking }, nil),
	OptClientsMax: within("clients_max", func(t target) *int { return &t.ClientsMax }, 1, MaxClients),
	OptConnMax:    within("conn_max", func(t target) *int { return &t.ConnMax }, 1, maxConns),
	OptPendingMax: number("pending_max", func(t target) *int { return &t.PendingMax }, atLeast(1)),
	OptAcceptMax:  number("accept_max", func(t target) *int { return &t.AcceptMax }, atLeast(1)),
	OptBacklog:    number("backlog", func(t target) *int { return &t.Backlog }, atLeast(50)),
	OptIdle:       number("idle_timeout", func(t target) *int { return &t.Idle }, atLeast(0)),
	OptClientACL:  listNumber("client_acl", func(t target) *List { return &t.ClientACL }),
	OptFastclose:  choice("tcp_fastclose", func(t target) *Fastclose { return &t.Fastclose }, "off", "up", "down", "both"),
	OptNoDelay:    toggle("tcp_nodelay", func(t target) *bool { return &t.NoDelay }),
	OptKeepalive:  toggle("keepalive", func(t target) *bool { return &t.Keepalive }),
	OptSource: {
		name: "source", kind: kindText,
		get: func(t target) Value { return sourceValue(t.Source) },
		set: func(t target, v Value) { t.Source, _ = parseSource(v.text) },
	},

	OptControlACL:   global(listNumber("control_acl", func(t target) *List { return &t.ControlACL })),
	OptDrainTimeout: global(number("drain_timeout", func(t target) *int { return &t.DrainTimeout }, atLeast(0))),

	OptTLSCertificate: textual("ssl_certificate", func(t target) *string { return &t.TLS.Certificate }),
	OptTLSKey:         textual("ssl_key", func(t target) *string { return &t.TLS.Key }),
	OptTLSCAFile:      textual("ssl_ca_file", func(t target) *string { return &t.TLS.CAFile }),
	OptTLSCAPath:      textual("ssl_ca_path", func(t target) *string { return &t.TLS.CAPath }),
	OptTLSClient:      choice("ssl_client_certificate", func(t target) *ClientCertificate { return &t.TLS.Client }, "off", "request", "require"),
	OptTLSCiphers:     textual("ssl_ciphers", func(t target) *string { return &t.TLS.Ciphers }),
	OptTLSVersions:    choice("ssl_option", func(t target) *TLSVersions { return &t.TLS.Versions }, "any", "no_tlsv1.2", "no_tlsv1.3"),
	OptTLSOCSP:        textual("ssl_ocsp_response", func(t target) *string { return &t.TLS.OCSP }),
	OptTLSSNIPath:     textual("ssl_sni_path", func(t target) *string { return &t.TLS.SNIPath }),

	OptProxyOut:    choice("proxy_out", func(t target) *ProxyHeader { return &t.ProxyOut }, "off", "v1", "v2"),
	OptProxyIn:     listOrNobody("proxy_in", func(t target) *List { return &t.ProxyIn }),
	OptGeoIPDB:     global(textual("geoip_db", func(t target) *string { return &t.GeoIPDB })),
	OptClientList:  listName("client_acl", func(t target) *List { return &t.ClientACL }),
	OptControlList: global(listName("control_acl", func(t target) *List { return &t.ControlACL })),
	OptResolve:     within("resolve", func(t target) *int { return &t.Resolve }, 0, math.MaxInt32),

	OptDirectLink:  textual("dsr_if", func(t target) *string { return &t.DirectLink }),
	OptTarpit:      tarpit(func(t target) *List { return &t.Tarpit }),
	OptHTTP:        toggle("http", func(t target) *bool { return &t.HTTP.Heads }),
	OptForwarded:   choice("http_forwarded", func(t target) *Forwarded { return &t.HTTP.Forwarded }, "remove", "append", "keep"),
	OptTransparent: toggle("transparent", func(t target) *bool { return &t.Transparent }),
	OptDummy:       toggle("dummy", func(t target) *bool { return &t.Dummy }),
	OptIdlers:      number("idlers", func(t target) *int { return &t.Idlers }, nil),
	OptProxyInList: listName("proxy_in", func(t target) *List { return &t.ProxyIn }),
	OptTarpitList:  listName("tarpit_acl", func(t target) *List { return &t.Tarpit }),
}

func toggle(name string, field func(target) *bool) option {
	return option{
		name: name, kind: kindBool,
		get: func(t target) Value { return Bool(*field(t)) },
		set: func(t target, v Value) { *field(t) = v.num != 0 },
	}
}

// number is a number of which fit makes what is kept, as quietly as the
// original; nil keeps it as it is.
func number(name string, field func(target) *int, fit func(wish int) int) option {
	return option{
		name: name, kind: kindInt, low: math.MinInt32, high: math.MaxInt32,
		get: func(t target) Value { return Int(*field(t)) },
		set: func(t target, v Value) {
			*field(t) = v.num
			if fit != nil {
				*field(t) = fit(v.num)
			}
		},
	}
}

// within is a number that is refused outside low..high.
func within(name string, field func(target) *int, low, high int) option {
	o := number(name, field, nil)
	o.low, o.high = low, high
	return o
}

func textual(name string, field func(target) *string) option {
	return option{
		name: name, kind: kindText,
		get: func(t target) Value { return Text(*field(t)) },
		set: func(t target, v Value) { *field(t) = v.text },
	}
}

func choice[T ~uint8](name string, field func(target) *T, words ...string) option {
	return option{
		name: name, kind: kindInt, low: 0, high: len(words) - 1, words: words,
		get: func(t target) Value { return Int(int(*field(t))) },
		set: func(t target, v Value) { *field(t) = T(v.num) },
	}
}

func global(o option) option { o.global = true; return o }

func atLeast(low int) func(int) int {
	return func(wish int) int { return max(low, wish) }
}

func listOrZero(wish int) int {
	if wish < 0 || wish >= ACLs {
		return 0
	}
	return wish
}

// listNumber and listName are the two rows of a setting that names an access list.
// A number takes the place of a name, and a name that of a number.
func listNumber(name string, field func(target) *List) option {
	return option{
		name: name, kind: kindInt, low: math.MinInt32, high: math.MaxInt32,
		get: func(t target) Value { return Int(field(t).Number) },
		set: func(t target, v Value) { *field(t) = Numbered(listOrZero(v.num)) },
	}
}

func listName(name string, field func(target) *List) option {
	return option{
		name: name, kind: kindText,
		get: func(t target) Value { return Text(field(t).Name) },
		set: func(t target, v Value) { field(t).setName(v.text) },
	}
}

// listOrNobody is such a number that may be NoList, and is refused if there can be no
// such list.
func listOrNobody(name string, field func(target) *List) option {
	o := listNumber(name, field)
	o.low, o.high = NoList, ACLs-1
	o.set = func(t target, v Value) { *field(t) = Numbered(v.num) }
	return o
}

// tarpit is one that is quiet, as in the original.
func tarpit(field func(target) *List) option {
	o := listNumber("tarpit_acl", field)
	o.set = func(t target, v Value) { *field(t) = Numbered(listOrNone(v.num)) }
	return o
}

func (l *List) setName(name string) {
	if l.Name = name; name != "" {
		l.Number = 0
	}
}

// listOrNone is as quiet, and what is no list at all is the first one.
func listOrNone(wish int) int {
	if wish == NoList {
		return wish
	}
	return listOrZero(wish)
}

func sourceValue(a netip.Addr) Value {
	if !a.IsValid() {
		return Text("")
	}
	return Text(a.String())
}

func parseSource(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err
}

// Options returns all options, in the order of their numbers.
func Options() []Option {
	var all []Option
	for i := range options {
		if Option(i).known() {
			all = append(all, Option(i))
		}
	}
	return all
}

// namesList tells whether the option holds the name of an access list.
func (o Option) namesList() bool {
	switch o {
	case OptClientList, OptControlList, OptProxyInList, OptTarpitList:
		return true
	}
	return false
}

func (o Option) known() bool { return int(o) < len(options) && options[o].name != "" }

// String returns the option's word, as in configuration files.
func (o Option) String() string {
	if !o.known() {
		return "option " + strconv.Itoa(int(o))
	}
	return options[o].name
}

// Global tells whether the option belongs to no service.
func (o Option) Global() bool { return o.known() && options[o].global }

// Get returns the value of a service's option, and the zero Value for others.
func (s *Settings) Get(o Option) Value {
	if !o.known() || o.Global() {
		return Value{}
	}
	return options[o].get(target{Settings: s})
}

// Get returns the value of a global option, and the zero Value for others.
func (g *Global) Get(o Option) Value {
	if !o.Global() {
		return Value{}
	}
	return options[o].get(target{Global: g})
}

// check tells why v is no value for the option.
func (o Option) check(v Value) error {
	if !o.known() {
		return errors.New("unknown option")
	}
	row := &options[o]
	switch {
	case v.kind != row.kind:
		return fmt.Errorf("got %v, want %v", v.kind, row.kind)
	case row.kind == kindInt && (v.num < row.low || v.num > row.high):
		return fmt.Errorf("outside %d..%d", row.low, row.high)
	case row.kind == kindText:
		if _, err := parseSource(v.text); o == OptSource && err != nil {
			return errors.New("no literal address")
		}
		if o.namesList() && v.text != "" {
			return CheckListName(v.text)
		}
		return checkText(v.text)
	case row.kind == kindListen:
		return checkText(v.listen.Text)
	}
	return nil
}

// print returns v in words.
func (o Option) print(v Value) string {
	if o.known() && v.kind == kindInt {
		if w := options[o].words; v.num >= 0 && v.num < len(w) {
			return w[v.num]
		}
	}
	if v.kind == kindText || v.kind == kindListen {
		return plain(v.String())
	}
	return v.String()
}

// checkText keeps out what would break lines in files and replies.
func checkText(s string) error {
	if len(s) > MaxText {
		return fmt.Errorf("text of %d bytes is longer than %d", len(s), MaxText)
	}
	if i := slices.IndexFunc([]byte(s), func(c byte) bool { return c < ' ' || c == 0x7f }); i >= 0 {
		return fmt.Errorf("control character %#02x in text", s[i])
	}
	return nil
}
