package quithttp_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A netns is a network namespace. A thread of its own calls funcs in it.
type netns struct{ calls chan func() }

// A link is a pair of network namespaces with a wire between them that delays
// each packet. Each end of the wire is a TUN device. Goroutines carry the
// packets.
type link struct {
	server, client         netns
	serverAddr, clientAddr string
}

// newLink returns a link on which a packet takes delay, and a func that takes
// the link down. It skips the test if the system allows no namespaces.
func newLink(t *testing.T, delay time.Duration) (l *link, down func()) {
	t.Helper()
	l = &link{serverAddr: "10.77.0.1", clientAddr: "10.77.0.2"}
	a := l.server.open(t, l.serverAddr, l.clientAddr)
	b := l.client.open(t, l.clientAddr, l.serverAddr)
	var carriers sync.WaitGroup
	carry := func(from, to *os.File) {
		type packet struct {
			due  time.Time
			data []byte
		}
		onTheWay := make(chan packet, 1<<16)
		carriers.Go(func() {
			defer close(onTheWay)
			for buf := make([]byte, 1<<16); ; {
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				select {
				case onTheWay <- packet{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
				default: // the link is full, so the packet is lost
				}
			}
		})
		carriers.Go(func() {
			for p := range onTheWay {
				time.Sleep(time.Until(p.due))
				to.Write(p.data)
			}
		})
	}
	carry(a, b)
	carry(b, a)
	return l, func() {
		a.Close()
		b.Close()
		carriers.Wait()
		close(l.server.calls)
		close(l.client.calls)
	}
}

// open makes the namespace, with a device that has the address. It returns the
// device.
func (n *netns) open(t *testing.T, addr, peer string) (tun *os.File) {
	t.Helper()
	n.calls = make(chan func())
	go func() { // ends when calls is closed
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range n.calls {
			f()
		}
	}()
	var err error
	n.do(func() { tun, err = newNamespace(addr, peer) })
	if err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	return tun
}

// do calls f in the namespace. Processes that f starts are in it too. A nil n
// is the namespace of the test.
func (n *netns) do(f func()) {
	if n == nil {
		f()
		return
	}
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

func newNamespace(addr, peer string) (tun *os.File, err error) {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	const tunNoPI = 0x1001 // IFF_TUN | IFF_NO_PI
	ifreq := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{flags: tunNoPI}
	copy(ifreq.name[:], "wire")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF,
		uintptr(unsafe.Pointer(&ifreq))); errno != 0 {
		syscall.Close(fd)
		return nil, fmt.Errorf("TUNSETIFF: %w", errno)
	}
	tun = os.NewFile(uintptr(fd), "tun")
	for _, args := range []string{
		"link set lo up",
		"addr add " + addr + " peer " + peer + " dev wire",
		"link set wire up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			tun.Close()
			return nil, fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return tun, nil
}
