package vip

import "fmt"

// CheckGateway says why there is nobody to ask on this machine as it is now: no
// default route leads through an interface of the addresses. Nothing is asked.
func CheckGateway(cfg Config, g Gateway) error {
	if g.None || g.Addr.IsValid() {
		return nil
	}
	links, have, err := look()
	if err != nil {
		return err
	}
	targets, err := resolve(cfg.Addresses, links, have)
	if err != nil {
		return err
	}
	routes, err := readRoutes()
	if err != nil {
		return fmt.Errorf("gateway auto: %w", err)
	}
	_, _, err = gatewayOf(g, targets, links, routes)
	return err
}
