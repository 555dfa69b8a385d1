package vip

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTableName(t *testing.T) {
	seen := map[string]string{}
	for cluster, want := range map[string]string{
		"":                       "pen",
		"shop":                   "pen_shop",
		"shop_2":                 "pen_shop_2",
		"shop-2":                 "",
		"shop.2":                 "",
		"Zürich":                 "",
		strings.Repeat("x", 300): "",
	} {
		got := tableName(cluster)
		if want != "" && got != want {
			t.Errorf("%q: %s, want %s", cluster, got, want)
		}
		if len(got) > 64 || strings.Trim(got, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Errorf("%q: %s is no name for nft", cluster, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q are both %s", cluster, other, got)
		}
		seen[got] = cluster
	}
}

func TestConfigMistakes(t *testing.T) {
	good := Config{Addresses: []Address{{Prefix: netip.MustParsePrefix("10.0.0.10/24")}}, Lease: 100 * time.Millisecond}
	if err := good.validate(); err != nil {
		t.Errorf("good: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"no address":                        func(c *Config) { c.Addresses = nil },
		"65 addresses, at most 64":          func(c *Config) { c.Addresses = make([]Address, 65) },
		"an address without a value":        func(c *Config) { c.Addresses = make([]Address, 1) },
		"kernel lease of 1ms: not between":  func(c *Config) { c.Lease = time.Millisecond },
		"kernel lease of 1m0s: not between": func(c *Config) { c.Lease = time.Minute },
		"given twice": func(c *Config) {
			c.Addresses = append(c.Addresses, Address{Prefix: netip.MustParsePrefix("10.0.0.10/32")})
		},
		"127.0.0.1/8: not an address of one":  func(c *Config) { c.Addresses[0].Prefix = netip.MustParsePrefix("127.0.0.1/8") },
		"224.0.0.1/32: not an address of one": func(c *Config) { c.Addresses[0].Prefix = netip.MustParsePrefix("224.0.0.1/32") },
		"0.0.0.0/0: not an address of one":    func(c *Config) { c.Addresses[0].Prefix = netip.MustParsePrefix("0.0.0.0/0") },
		"write it without mapping": func(c *Config) {
			c.Addresses[0].Prefix = netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.10"), 120)
		},
		"fe80::1/64: every interface has this ": func(c *Config) { c.Addresses[0].Prefix = netip.MustParsePrefix("fe80::1/64") },
	} {
		c := good
		c.Addresses = append([]Address(nil), good.Addresses...)
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}
