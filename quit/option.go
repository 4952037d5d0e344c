package quit

import (
	"slices"
	"time"
)

// Option is an option of a Register method or of [QuitEvent.Go]. A nil Option
// is ignored, as is an option that does not apply to the call. If an option is
// given twice, the last one counts.
type Option interface{ apply(*config) }

// config has the options of one call.
type config struct {
	name       string        // "": the default name
	timeout    time.Duration // 0: none
	afterDrain bool
	ignore     *ignore // nil: nothing is ignored
}

func configOf(opts []Option) config {
	if len(opts) == 0 {
		return config{}
	}
	c := new(config) // on the heap, since its address is passed to apply
	for _, o := range opts {
		if o != nil {
			o.apply(c)
		}
	}
	return *c
}

// Name names a closer or a goroutine in errors, logs, reports and profiles. The
// default is the type of a closer or the symbol of a func. An empty name means
// the default.
func Name(name string) Option { return nameOption(name) }

type nameOption string

func (o nameOption) apply(c *config) { c.name = string(o) }

// Timeout limits one closer to d: its context expires after d, and it is
// abandoned an eighth of d later. Timeout cannot extend the closer's share of
// the whole shutdown, which the field [QuitEvent.Timeout] limits. If d is zero
// or negative, the closer has no limit of its own. Go ignores this option.
func Timeout(d time.Duration) Option { return timeoutOption(max(d, 0)) }

type timeoutOption time.Duration

func (o timeoutOption) apply(c *config) { c.timeout = time.Duration(o) }

// AfterDrain delays the call of a closer until after the drain: until no
// counted goroutine is left, or the drain is given up. Pass it for anything
// that counted goroutines use, such as a database. Go ignores this option.
func AfterDrain() Option { return afterDrainOption{} }

type afterDrainOption struct{}

func (afterDrainOption) apply(c *config) { c.afterDrain = true }

// Ignore says that an error of the closer or goroutine is not a failure if it
// is one of errs in the sense of [errors.Is]. Unlike most options, several
// Ignore and IgnoreFunc options add up.
//
// If some of the errors joined by [errors.Join] are ignored, the others count.
// The same holds for the errors of a nested event. Any other error that wraps
// several errors counts unless all of them are ignored. A panic, an abandoned
// closer and goroutines that are left always count.
func Ignore(errs ...error) Option { return ignoreOption{errs: slices.Clone(errs)} }

// IgnoreFunc is like [Ignore], for the errors for which ok returns true, such
// as those with the gRPC status code Canceled. IgnoreFunc calls ok with the
// whole error and, if that returns false, with each of the errors joined in it.
// If ok panics, both the error and the panic count. A nil ok ignores nothing.
func IgnoreFunc(ok func(error) bool) Option { return ignoreOption{ok: ok} }

func (o ignoreOption) apply(c *config) {
	all := new(ignore)
	if c.ignore != nil {
		*all = *c.ignore
	}
	all.errs = append(all.errs[:len(all.errs):len(all.errs)], o.errs...)
	if o.ok != nil {
		all.oks = append(all.oks[:len(all.oks):len(all.oks)], o.ok)
	}
	c.ignore = all
}

type ignoreOption struct {
	errs []error
	ok   func(error) bool
}
