package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxSubtasks = 16

// parse parses the parameters sub=1s or sub=1s,500ms, which may be repeated,
// timeout=2s and deadline=1700000000.
func parse(query url.Values) (*task, error) {
	t := new(task)
	for _, sub := range query["sub"] {
		takes, limit, limited := strings.Cut(sub, ",")
		var s subtask
		var err error
		if s.takes, err = time.ParseDuration(takes); err != nil {
			return nil, fmt.Errorf("sub: %w", err)
		}
		if limited {
			if s.limit, err = positive("sub", limit); err != nil {
				return nil, err
			}
		}
		t.subtasks = append(t.subtasks, s)
	}
	if n := len(t.subtasks); n == 0 || n > maxSubtasks {
		return nil, fmt.Errorf("sub: want 1 to %d, not %d", maxSubtasks, n)
	}
	var err error
	if s := query.Get("timeout"); s != "" {
		if t.timeout, err = positive("timeout", s); err != nil {
			return nil, err
		}
	}
	if s := query.Get("deadline"); s != "" {
		unix, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("deadline: want seconds since 1970, not %q", s)
		}
		t.deadline = time.Unix(unix, 0)
	}
	return t, nil
}

func positive(name, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%v is no time", d)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}
