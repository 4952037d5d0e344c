// Package advertise finds the address that a service registers with a service
// discovery, if it listens on all addresses of the machine.
package advertise

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// Host returns the host at which others reach a server that listens on addr, a
// host and a port. If addr names no host, or a wildcard like 0.0.0.0 or [::],
// Host returns an address of the machine: that of the first network interface
// with one that others can reach, preferably IPv4.
func Host(addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host != "" && !ip.IsUnspecified() {
		return host, nil
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	slices.SortFunc(ifaces, func(a, b net.Interface) int { return cmp.Compare(a.Index, b.Index) })
	for _, iface := range ifaces {
		if iface.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := iface.Addrs()
		if err != nil {
			continue // it is gone in the meantime
		}
		if ip := pick(addrs); ip != nil {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("address %s: no network interface has an address for others", addr)
}

// pick returns the first IPv4 address that others can reach or, if there is
// none, the first such IPv6 address, or nil. Loopback and link-local addresses
// do not count.
func pick(addrs []net.Addr) net.IP {
	var ip6 net.IP
	for _, addr := range addrs {
		ipNet, ok := addr.(*net.IPNet)
		switch {
		case !ok || !ipNet.IP.IsGlobalUnicast():
		case ipNet.IP.To4() != nil:
			return ipNet.IP
		case ip6 == nil:
			ip6 = ipNet.IP
		}
	}
	return ip6
}

// URL returns scheme://host:port with the port of bound, the address of a TCP
// listener.
func URL(scheme, host string, bound net.Addr) string {
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(bound.(*net.TCPAddr).Port))
}
