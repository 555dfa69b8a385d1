package state

import (
	"fmt"
	"math"
	"net/netip"

	"pgregory.net/rapid"
)

// Generators of commands: mostly sensible ones about few things, so that they
// meet, and some that are refused.

var (
	anyName     = rapid.OneOf(rapid.SampledFrom([]string{"", "web"}), rapid.SampledFrom([]string{"", "web", "default", "dns", "mail", "bad name"}))
	anyText     = rapid.OneOf(rapid.Just("www1"), rapid.SampledFrom([]string{"", "www1", "10.0.0.1", "fe80::1%eth0", "bad\n"}))
	anyListName = rapid.SampledFrom([]string{"", "", "", "office", "home", "9"})
	anyInt      = rapid.OneOf(small, small, small, small, small, small, small, small, small, rapid.SampledFrom([]int{2047, 3000, math.MaxInt32, math.MinInt32, math.MaxInt, 9_999_999}))
	small       = rapid.IntRange(-5, 12)
	anyAddr     = rapid.SampledFrom([]netip.Addr{
		{},
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.0.0.1"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::"), netip.MustParseAddr("0.0.0.0"),
	})
	anyMask = rapid.SampledFrom([]netip.Addr{
		{},
		netip.MustParseAddr("255.0.255.0"), netip.MustParseAddr("255.255.0.0"), netip.MustParseAddr("0.0.0.0"),
		netip.MustParseAddr("ffff:ffff::"), netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ff00:0"), netip.MustParseAddr("ff00:ff00::"),
	})
	anyAddress = rapid.Custom(func(t *rapid.T) Address {
		if rapid.IntRange(0, 5).Draw(t, "path") == 0 {
			return Address{Host: "/run/app.sock"}
		}
		return Address{Host: anyText.Draw(t, "host"), IP: anyAddr.Draw(t, "ip")}
	})
	anyIndex  = rapid.OneOf(rapid.IntRange(-2, 3), rapid.IntRange(-2, 3), rapid.SampledFrom([]int{-3, 4, 5, 6, 7, 8, 30, 31, MaxServers - 1, MaxServers}))
	anyOption = rapid.SampledFrom(Options())
	anyTime   = rapid.Custom(func(t *rapid.T) Time { return Time(rapid.IntRange(0, 200_000).Draw(t, "ms")) })
	anyPort   = rapid.Uint16Range(0, 2)
)

func anyValue(o Option) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		switch options[o].kind {
		case kindBool:
			return Bool(rapid.Bool().Draw(t, "bool"))
		case kindText:
			return Text(rapid.SampledFrom([]string{"", "10.0.0.9", "2001:db8::9", "::ffff:10.0.0.9", "nonsense"}).Draw(t, "text"))
		case kindListen:
			return Bind(Listen{anyText.Draw(t, "text"), netip.AddrPortFrom(anyAddr.Draw(t, "addr"), anyPort.Draw(t, "port"))})
		}
		return Int(anyInt.Draw(t, "int"))
	})
}

var anyOp = rapid.OneOf(
	op(func(t *rapid.T) AddService { return AddService{anyName.Draw(t, "service")} }),
	op(func(t *rapid.T) RemoveService { return RemoveService{anyName.Draw(t, "service")} }),
	op(func(t *rapid.T) Set {
		o := anyOption.Draw(t, "option")
		return Set{anyName.Draw(t, "service"), o, anyValue(o).Draw(t, "value")}
	}),
	anySetServer, anySetServer, anySetServer, anySetServer,
	op(func(t *rapid.T) RemoveServer {
		return RemoveServer{anyName.Draw(t, "service"), anyIndex.Draw(t, "index")}
	}),
	op(func(t *rapid.T) Fail {
		return Fail{anyName.Draw(t, "service"), anyIndex.Draw(t, "index"), anyAddress.Draw(t, "was"), anyPort.Draw(t, "port"), anyTime.Draw(t, "mark")}
	}),
	op(func(t *rapid.T) Recover {
		return Recover{anyName.Draw(t, "service"), anyIndex.Draw(t, "index"), anyAddress.Draw(t, "was"), anyPort.Draw(t, "port"), anyTime.Draw(t, "mark")}
	}),
	op(func(t *rapid.T) AppendACL {
		e := ACLEntry{Permit: rapid.Bool().Draw(t, "permit")}
		if e.Country = rapid.SampledFrom([]string{"", "", "", "", "se", "SE", "xyz"}).Draw(t, "country"); e.Country == "" {
			e.Addr, e.Mask = anyAddr.Draw(t, "addr"), anyMask.Draw(t, "mask")
		}
		return AppendACL{rapid.IntRange(-1, 10).Draw(t, "list"), e}
	}),
	op(func(t *rapid.T) AppendNamedACL {
		return AppendNamedACL{anyListName.Draw(t, "list"), ACLEntry{Permit: rapid.Bool().Draw(t, "permit"), Addr: anyAddr.Draw(t, "addr"), Mask: anyMask.Draw(t, "mask")}}
	}),
	op(func(t *rapid.T) RemoveNamedACL { return RemoveNamedACL{anyListName.Draw(t, "list")} }),
	op(func(t *rapid.T) ClearACL { return ClearACL{rapid.IntRange(-1, 10).Draw(t, "list")} }),
	anyVisits, anyVisits, anyVisits,
	op(func(t *rapid.T) Set { return Set{"", OptTracking, Int(rapid.IntRange(0, 30).Draw(t, "tracking"))} }),
	op(func(t *rapid.T) SetNode {
		return SetNode{rapid.SampledFrom([]string{"", "a", "b", "bad name"}).Draw(t, "node"), rapid.Bool().Draw(t, "drained")}
	}),
	op(func(t *rapid.T) SetLevel {
		return SetLevel{Level(rapid.Uint32Range(0, uint32(Newest)+1).Draw(t, "level"))}
	}),
	op(func(t *rapid.T) Stamp { return Stamp{anyTime.Draw(t, "wall")} }),
	op(func(t *rapid.T) RotateTickets {
		return RotateTickets{rapid.SampledFrom([]Time{0, 1, 2, 3}).Draw(t, "was"), [32]byte{rapid.Byte().Draw(t, "key")}}
	}),
	op(func(t *rapid.T) Move {
		return Move{anyName.Draw(t, "service"), anyIndex.Draw(t, "index"), anyAddress.Draw(t, "was"), anyAddr.Draw(t, "to")}
	}),
	op(func(t *rapid.T) SetClients {
		return SetClients{anyName.Draw(t, "service"), anyVisits.Draw(t, "clients").(Visits).Clients}
	}),
	op(func(t *rapid.T) Seeded { return Seeded{[32]byte{rapid.SampledFrom([]byte{0, 1}).Draw(t, "sum")}} }),
	op(func(t *rapid.T) SeedWith { return SeedWith{rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "seed")} }),
)

var anySetServer = op(func(t *rapid.T) SetServer {
	o := SetServer{Service: anyName.Draw(t, "service"), Index: anyIndex.Draw(t, "index")}
	from := Server{
		Address: anyAddress.Draw(t, "address"), Port: anyPort.Draw(t, "port"),
		Soft: anyInt.Draw(t, "soft"), Hard: anyInt.Draw(t, "hard"), Weight: anyInt.Draw(t, "weight"),
		Prio: anyInt.Draw(t, "prio"), ACL: List{anyInt.Draw(t, "acl"), anyListName.Draw(t, "acl name")}, Mark: anyTime.Draw(t, "mark"),
	}
	o.Fields = ServerFields(rapid.Uint16Range(0, uint16(allFields)).Draw(t, "fields"))
	o.Server = from // unnamed fields and all: they do not count
	return o
})

var anyVisits = op(func(t *rapid.T) Visits {
	v := Visits{Service: rapid.Uint32Range(0, 4).Draw(t, "id")}
	for range rapid.IntRange(1, 8).Draw(t, "clients") {
		v.Clients = append(v.Clients, Visit{
			Client: client(rapid.IntRange(0, 40).Draw(t, "client")),
			Server: rapid.IntRange(Keep, 4).Draw(t, "server"),
			Ago:    rapid.Uint32Range(0, 20).Draw(t, "ago"),
		})
	}
	return v
})

func op[T Op](draw func(*rapid.T) T) *rapid.Generator[Op] {
	return rapid.Custom(func(t *rapid.T) Op { return draw(t) })
}

var anyCommand = rapid.Custom(func(t *rapid.T) Command {
	c := Command{
		Time: anyTime.Draw(t, "time"),
		By:   fmt.Sprintf("test %d", rapid.IntRange(0, 9).Draw(t, "by")),
		Ops:  rapid.SliceOfN(anyOp, 0, 4).Draw(t, "ops"),
	}
	if rapid.IntRange(0, 5).Draw(t, "request") == 0 {
		c.Ops = append([]Op{Request{RequestID{rapid.Uint8Range(0, 5).Draw(t, "id")}}}, c.Ops...)
	}
	return c
})

// anyHistory is commands with which time mostly goes on. Most have one
// operation, so that few are refused.
var anyHistory = rapid.Custom(func(t *rapid.T) []Command {
	all := []Command{{Ops: []Op{AddService{"web"}}}}
	var now Time
	for range rapid.IntRange(0, 40).Draw(t, "commands") {
		c := anyCommand.Draw(t, "command")
		if rapid.IntRange(0, 3).Draw(t, "one op") > 0 && len(c.Ops) > 1 {
			c.Ops = c.Ops[:1]
		}
		now += c.Time / 20
		c.Time = now
		all = append(all, c)
	}
	return all
})
