package vip

// Release takes away what a process has left in this kernel that was ended with
// its guard: the addresses, and then the rules that shut them. It must not be
// called while anybody may hold them here. It returns how many addresses were
// left.
//
// Nothing is wrong without it. The rules are shut by then, and the addresses end
// with their lifetime. But shut rules are also in the way of another program
// that is to have the address on this machine.
func Release(cfg Config) (int, error) {
	if err := cfg.validate(); err != nil {
		return 0, err
	}
	f := newFence(tableName(cfg.Name), nil, 0)
	for _, a := range cfg.Addresses {
		f.addrs = append(f.addrs, a.Prefix.Addr())
	}
	gone, err := sweep(f.addrs)
	if err != nil || cfg.fenceless {
		return gone, err // an address that is still there stays shut
	}
	return gone, f.remove()
}
