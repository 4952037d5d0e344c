package quithttp

const sysGetsockopt = 365 // Linux 4.3; package syscall has only what came before
