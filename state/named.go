package state

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// List says which access list is meant: the one of that number, or with a name
// the one of that name. A List with a name has no number.
type List struct {
	Number int
	Name   string
}

// Numbered is the list of that number.
func Numbered(n int) List { return List{Number: n} }

// String returns the list as the language names it.
func (l List) String() string {
	if l.Name != "" {
		return l.Name
	}
	return strconv.Itoa(l.Number)
}

// ParseList reads what String writes. What begins with a letter is a name.
func ParseList(text string) (List, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return List{Number: n}, nil
	}
	return List{Name: text}, CheckListName(text)
}

// NamedACL is an access list with a name.
type NamedACL struct {
	Name string
	ACL
}

// AppendNamedACL adds an entry to the end of the list of that name, and makes it
// if it is not there.
type AppendNamedACL struct {
	Name  string
	Entry ACLEntry
}

// RemoveNamedACL removes a list with a name. It is no error if there is none.
type RemoveNamedACL struct{ Name string }

func (AppendNamedACL) op() opcode { return opAppendNamedACL }
func (RemoveNamedACL) op() opcode { return opRemoveNamedACL }

func (o AppendNamedACL) String() string { return fmt.Sprintf("acl %s %v", plain(o.Name), o.Entry) }
func (o RemoveNamedACL) String() string { return "no acl " + plain(o.Name) }

// CheckListName tells why a list can not have that name. A name begins with a
// letter, so that nobody takes it for a number.
func CheckListName(name string) error {
	if name == "" {
		return errors.New("an access list without a name")
	}
	if c := name[0] | 0x20; c < 'a' || c > 'z' {
		return fmt.Errorf("name %q does not begin with a letter", name)
	}
	return checkName(name)
}

// List returns the list that is meant, or nil if there is none.
func (v *View) List(l List) *ACL {
	if l.Name != "" {
		if i, found := v.findNamed(l.Name); found {
			return &v.Named[i].ACL
		}
		return nil
	}
	if l.Number < 0 || l.Number >= ACLs {
		return nil
	}
	return &v.ACL[l.Number]
}

func (v *View) findNamed(name string) (int, bool) {
	return slices.BinarySearchFunc(v.Named, name, func(l NamedACL, name string) int { return strings.Compare(l.Name, name) })
}

// Permits tells whether a list lets a client in. As in the original, list 10
// permits everybody, but 11 and above, and -1 and below, deny. A name for which
// there is no list denies, too: who asks for a list wants to keep somebody out.
// Invalid addresses (clients on Unix sockets) always pass. For country see
// (*ACL).Permits.
func (v *View) Permits(l List, client netip.Addr, country func(netip.Addr) string) bool {
	if !client.IsValid() || l == Numbered(ACLs) {
		return true
	}
	list := v.List(l)
	return list != nil && list.Permits(client, country)
}

func (d *draft) appendNamedACL(o AppendNamedACL) error {
	if err := CheckListName(o.Name); err != nil {
		return err
	}
	e, err := o.Entry.normal()
	if err != nil {
		return err
	}
	i, found := d.view.findNamed(o.Name)
	if !found && len(d.view.Named) >= MaxNamedACLs {
		return fmt.Errorf("%d access lists with a name are the most", MaxNamedACLs)
	}
	d.ownNamed()
	if !found {
		d.view.Named = slices.Insert(d.view.Named, i, NamedACL{Name: o.Name})
	}
	l := &d.view.Named[i]
	if len(l.Entries) >= MaxACLEntries {
		return fmt.Errorf("%d entries are the most", MaxACLEntries)
	}
	l.Entries = append(l.Entries, e) // see appendACL
	return nil
}

func (d *draft) removeNamedACL(o RemoveNamedACL) error {
	i, found := d.view.findNamed(o.Name)
	if !found {
		return nil
	}
	d.ownNamed()
	d.view.Named = slices.Delete(d.view.Named, i, i+1)
	if len(d.view.Named) == 0 {
		d.view.Named = nil // as in a state that never had any
	}
	return nil
}

// ownNamed makes the slice of lists one that may be written to. In a dry draft
// the entries behind it share no room to append.
func (d *draft) ownNamed() {
	d.changed = true
	if d.named {
		return
	}
	d.named = true
	d.view.Named = slices.Clone(d.view.Named)
	if !d.dry {
		return
	}
	for i := range d.view.Named {
		d.view.Named[i].Entries = slices.Clip(d.view.Named[i].Entries)
	}
}

// diffNamed returns what makes the lists with names of from into those of to.
func diffNamed(from, to *View) []Op {
	var ops []Op
	for _, l := range from.Named {
		if to.List(List{Name: l.Name}) == nil {
			ops = append(ops, RemoveNamedACL{l.Name})
		}
	}
	for _, l := range to.Named {
		added := l.Entries
		if was := from.List(List{Name: l.Name}); was != nil {
			if n := len(was.Entries); n <= len(added) && slices.Equal(was.Entries, added[:n]) {
				added = added[n:]
			} else {
				ops = append(ops, RemoveNamedACL{l.Name})
			}
		}
		for _, e := range added {
			ops = append(ops, AppendNamedACL{l.Name, e})
		}
	}
	return ops
}

// mergeNamed returns the lists with names of have, with what changed from base
// to want.
func mergeNamed(base, want, have *View) []NamedACL {
	merged := &View{Named: slices.Clone(have.Named)}
	changed := func(name string) bool {
		a, b := base.List(List{Name: name}), want.List(List{Name: name})
		return (a == nil) != (b == nil) || a != nil && !slices.Equal(a.Entries, b.Entries)
	}
	for _, l := range base.Named {
		i, found := merged.findNamed(l.Name)
		if want.List(List{Name: l.Name}) == nil && found {
			merged.Named = slices.Delete(merged.Named, i, i+1)
		}
	}
	for _, l := range want.Named {
		if !changed(l.Name) {
			continue
		}
		i, found := merged.findNamed(l.Name)
		if found {
			merged.Named[i] = l
		} else {
			merged.Named = slices.Insert(merged.Named, i, l)
		}
	}
	return merged.Named
}
