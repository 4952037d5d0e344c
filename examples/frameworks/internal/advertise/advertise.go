// Package advertise finds the address that a service is to register with a
// service discovery, when it listens on all addresses of the machine.
package advertise

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// Host returns the host under which others reach a server that is to listen on
// addr, a host and a port. If addr names no host, or a wildcard as 0.0.0.0 and
// [::] are, it is an address of the machine: of the first network interface
// that has one for others, and IPv4 rather than IPv6.
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
			continue // it has gone in the meantime
		}
		if ip := pick(addrs); ip != nil {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("address %s: no network interface has an address for others", addr)
}

// pick returns the first IPv4 address that others can reach or, if there is
// none, the first such IPv6 address, or nil. A loopback or link-local address
// is none.
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
