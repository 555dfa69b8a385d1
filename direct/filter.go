package direct

import (
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// longest is more than any frame has.
const longest = 1 << 20

// Types of packets, as the kernel tells them apart: for this machine, for all, for a group.
const lastOfOurs = 2

// filter lets through what judge would look at, so that all else on the interface does
// not wake us: questions and answers about neighbours, and what is for the addresses.
// With a tarpit there are also segments that open connections, to whomever.
//
// What has a VLAN's tag is not for us: the kernel takes the tag off and tells of it
// beside the frame, and without it the frame would go out into another network. What is
// for another machine's MAC comes by when a switch has forgotten where that is; if
// we sent it on, the client would be served twice.
func filter(addrs []netip.Addr, tarpit bool) []bpf.Instruction {
	accept, reject := bpf.RetConstant{Val: longest}, bpf.RetConstant{Val: 0}
	f := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		reject,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: lastOfOurs, SkipFalse: 1},
		reject,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeARP, SkipTrue: 1},
		accept,
	}
	four, six := family4(addrs, tarpit), family6(addrs, tarpit)
	f = append(f,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv4, SkipFalse: 1},
		bpf.Jump{Skip: 3}, // to four
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv6, SkipTrue: 1},
		reject,
		bpf.Jump{Skip: uint32(len(four))}, // to six
	)
	return slices.Concat(f, four, six)
}

// family4 ends with a verdict.
func family4(addrs []netip.Addr, tarpit bool) []bpf.Instruction {
	const to = ethernetLen + 16
	f := []bpf.Instruction{bpf.LoadAbsolute{Off: to, Size: 4}}
	for _, a := range addrs {
		if a.Is4() {
			b := a.As4()
			f = append(f, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), SkipFalse: 1}, bpf.RetConstant{Val: longest})
		}
	}
	if tarpit {
		f = append(f,
			bpf.LoadAbsolute{Off: ethernetLen + 9, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: tcp, SkipTrue: 1}, bpf.RetConstant{Val: 0},
			bpf.LoadAbsolute{Off: ethernetLen + 6, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipFalse: 1}, bpf.RetConstant{Val: 0},
			bpf.LoadMemShift{Off: ethernetLen},
			bpf.LoadIndirect{Off: ethernetLen + 13, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagFIN | flagSYN | flagRST | flagACK},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: flagSYN, SkipFalse: 1}, bpf.RetConstant{Val: longest},
		)
	}
	return append(f, bpf.RetConstant{Val: 0})
}

func family6(addrs []netip.Addr, tarpit bool) []bpf.Instruction {
	const to = ethernetLen + 24
	f := []bpf.Instruction{
		bpf.LoadAbsolute{Off: ethernetLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6, SkipFalse: 4},
		bpf.LoadAbsolute{Off: ethernetLen + ipv6Len, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipFalse: 1},
		bpf.RetConstant{Val: longest},
	}
	for _, a := range addrs {
		if a.Is4() {
			continue
		}
		b := a.As16()
		for i := range 4 {
			word := b[4*i:]
			// The first word that differs jumps over the rest of this address.
			f = append(f, bpf.LoadAbsolute{Off: to + uint32(4*i), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(word[0])<<24 | uint32(word[1])<<16 | uint32(word[2])<<8 | uint32(word[3]), SkipFalse: uint8(7 - 2*i)})
		}
		f = append(f, bpf.RetConstant{Val: longest})
	}
	if tarpit {
		f = append(f,
			bpf.LoadAbsolute{Off: ethernetLen + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: tcp, SkipTrue: 1}, bpf.RetConstant{Val: 0},
			bpf.LoadAbsolute{Off: ethernetLen + ipv6Len + 13, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagFIN | flagSYN | flagRST | flagACK},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: flagSYN, SkipFalse: 1}, bpf.RetConstant{Val: longest},
		)
	}
	return append(f, bpf.RetConstant{Val: 0})
}
