//go:build linux && !386

package quithttp

import "syscall"

const sysGetsockopt = syscall.SYS_GETSOCKOPT
