package quit

import (
	"slices"
	"time"
)

// Option is an option of a Register method or of [QuitEvent.Go]. A nil Option
// is ignored, and so is one where it means nothing. Of two alike, the last one
// counts.
type Option interface{ apply(*config) }

// config is what the options of one call come to.
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
	c := new(config) // on the heap, since an Option gets its address
	for _, o := range opts {
		if o != nil {
			o.apply(c)
		}
	}
	return *c
}

// Name names a closer or a goroutine in errors, logs, reports and profiles. The
// default is a closer's type, or a func's symbol; "" means the default.
func Name(name string) Option { return nameOption(name) }

type nameOption string

func (o nameOption) apply(c *config) { c.name = string(o) }

// Timeout limits one closer to d: its context expires after d, and it is
// abandoned an eighth of d later. It cannot extend the closer's share of
// [QuitEvent.Timeout]. Zero or less means no limit of its own. It means nothing
// to Go.
func Timeout(d time.Duration) Option { return timeoutOption(max(d, 0)) }

type timeoutOption time.Duration

func (o timeoutOption) apply(c *config) { c.timeout = time.Duration(o) }

// AfterDrain has a closer called once no counted goroutine is left, or the
// drain was given up. Pass it for everything that goroutines use, such as a
// database. It means nothing to Go.
func AfterDrain() Option { return afterDrainOption{} }

type afterDrainOption struct{}

func (afterDrainOption) apply(c *config) { c.afterDrain = true }

// Ignore says that these errors, in the sense of [errors.Is], are no failure of
// the closer or goroutine. If only some of the errors joined by [errors.Join],
// or of those of an event within the event, are ignored, the others count. Any
// other error that wraps several counts unless all of them are ignored. Several
// Ignore options add up. A panic, a closer that is abandoned, and goroutines
// that are left always count.
func Ignore(errs ...error) Option { return ignoreOption{errs: slices.Clone(errs)} }

// IgnoreFunc is Ignore for the errors for which ok returns true, such as those
// with the code Canceled of a gRPC status. ok is called with the whole error
// and, if it returns false, with each of those that are joined in it. If ok
// panics, the error counts, and the panic too. A nil ok ignores nothing.
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
