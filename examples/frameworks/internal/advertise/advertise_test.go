package advertise

import (
	"net"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	for _, test := range []struct{ addr, want string }{
		{"127.0.0.1:8080", "127.0.0.1"},
		{"192.0.2.1:0", "192.0.2.1"},
		{"[2001:db8::1]:80", "2001:db8::1"},
		{"localhost:80", "localhost"},
		{"hello.example:80", "hello.example"},
	} {
		if got, err := Host(test.addr); got != test.want || err != nil {
			t.Errorf("Host(%q) = %q, %v, want %q", test.addr, got, err, test.want)
		}
	}
	if got, err := Host("127.0.0.1"); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("Host(127.0.0.1) = %q, %v, want an error that names the address", got, err)
	}
}

// TestWildcard checks that Host returns an address of this machine, or else the
// error that others can reach none.
func TestWildcard(t *testing.T) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	want := pick(own) != nil
	for _, addr := range []string{":8000", "0.0.0.0:8000", "[::]:8000", "[0:0::0]:8000"} {
		got, err := Host(addr)
		if !want {
			if err == nil || !strings.Contains(err.Error(), addr) {
				t.Errorf("Host(%q) = %q, %v, want an error that names it", addr, got, err)
			}
			continue
		}
		if ip := net.ParseIP(got); err != nil || ip == nil || ip.IsUnspecified() ||
			ip.IsLoopback() {
			t.Errorf("Host(%q) = %q, %v, want an address for others", addr, got, err)
		}
		found := false
		for _, a := range own {
			found = found || strings.HasPrefix(a.String(), got+"/")
		}
		if !found {
			t.Errorf("Host(%q) = %q, want one of %v", addr, got, own)
		}
	}
}

func TestPick(t *testing.T) {
	for _, test := range []struct{ addrs, want string }{
		{"", "<nil>"},
		{"127.0.0.1/8 ::1/128 169.254.1.1/16 fe80::1/64 0.0.0.0/0 ::/0 224.0.0.1/4", "<nil>"},
		{"fe80::1/64 2001:db8::1/64 10.0.0.5/8 192.0.2.1/24", "10.0.0.5"},
		{"127.0.0.1/8 192.0.2.1/24", "192.0.2.1"},
		{"169.254.1.1/16 2001:db8::1/64 2001:db8::2/64", "2001:db8::1"},
	} {
		var addrs []net.Addr
		for a := range strings.FieldsSeq(test.addrs) {
			ip, ipNet, err := net.ParseCIDR(a)
			if err != nil {
				t.Fatal(err)
			}
			ipNet.IP = ip
			addrs = append(addrs, ipNet)
		}
		if got := pick(addrs).String(); got != test.want {
			t.Errorf("pick(%s) = %s, want %s", test.addrs, got, test.want)
		}
	}
}

func TestURL(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv6unspecified, Port: 8000}
	for _, test := range []struct{ host, want string }{
		{"192.0.2.1", "grpc://192.0.2.1:8000"},
		{"2001:db8::1", "grpc://[2001:db8::1]:8000"},
		{"hello.example", "grpc://hello.example:8000"},
	} {
		if got := URL("grpc", test.host, bound); got != test.want {
			t.Errorf("URL(grpc, %s, %v) = %s, want %s", test.host, bound, got, test.want)
		}
	}
}
