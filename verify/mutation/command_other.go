//go:build !unix

package main

import (
	"context"
	"os/exec"
	"time"
)

// command returns a command that is killed at the end of ctx.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	return cmd
}
