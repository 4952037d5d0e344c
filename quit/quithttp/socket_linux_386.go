package quithttp

const sysGetsockopt = 365 // since Linux 4.3; package syscall is older
