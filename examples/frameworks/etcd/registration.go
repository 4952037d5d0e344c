//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// registration is a key that exists while its lease is kept alive. The key
// never has two leases of this process, so revoking the last one deletes the
// key.
type registration struct {
	client   *clientv3.Client
	key, url string
	ttl      time.Duration
	limit    time.Duration      // for register
	stop     context.CancelFunc // cancels the context of keep

	mu    sync.Mutex       // held while registering; guards the fields below
	lease clientv3.LeaseID // the last one granted; 0: none
	put   bool             // etcd has confirmed a Put of the key
}

// keep registers, and registers again when the registration is lost, until ctx
// is done. An error ends it only at the start.
func (r *registration) keep(ctx context.Context) error {
	first, said := true, ""
	for {
		alive, err := r.register(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return fmt.Errorf("registering %s: %w", r.key, err)
		case err != nil:
			if text := err.Error(); text != said { // not twice a second
				said = text
				slog.Warn("not registered, trying again", "key", r.key, "err", err)
			}
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		first, said = false, ""
		fmt.Println("registered", r.key)
		for range alive { // it ends when the lease is lost, or ctx is done
		}
		if ctx.Err() == nil {
			slog.Warn("registration lost, registering again", "key", r.key)
		}
	}
}

func (r *registration) register(
	ctx context.Context,
) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil { // nothing registers after Shutdown
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()

	// A lease that seems lost can still be alive.
	if err := r.revoke(limited); err != nil {
		return nil, err
	}
	lease, err := r.client.Grant(limited, int64(r.ttl/time.Second))
	if err != nil {
		return nil, err
	}
	r.lease = lease.ID // before the Put, which can fail and still arrive
	if _, err := r.client.Put(limited, r.key, r.url, clientv3.WithLease(r.lease)); err != nil {
		return nil, err
	}
	r.put = true
	return r.client.KeepAlive(ctx, r.lease)
}

// Shutdown deletes the key for good. Either keep has ended by then, or etcd
// refuses its Put because the lease is revoked.
func (r *registration) Shutdown(ctx context.Context) error {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	var deleted int64
	var err error
	if r.put {
		var resp *clientv3.DeleteResponse
		if resp, err = r.client.Delete(ctx, r.key); err == nil {
			deleted = resp.Deleted // 0: the key was already gone
		}
	}
	if err == nil {
		err = r.revoke(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s may be there until its lease of %v expires: %w", r.key, r.ttl, err)
	}
	if deleted > 0 {
		fmt.Println("deregistered", r.key)
	}
	return nil
}

// revoke is called with mu held.
func (r *registration) revoke(ctx context.Context) error {
	if r.lease == 0 {
		return nil
	}
	_, err := r.client.Revoke(ctx, r.lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) { // it has expired
		return err
	}
	r.lease = 0
	return nil
}
