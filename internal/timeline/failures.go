package timeline

import (
	"errors"
	"iter"
	"reflect"
	"strings"

	"github.com/gracefulgo/graceful/internal/text"
)

// Named is an error with the name of its step.
type Named interface {
	error
	Failure() (name, site string, err error)
}

// List is an error that only holds several errors.
type List interface {
	error
	List() []error
}

// Limits of one failure, in bytes. The JSON is not limited.
const (
	mostText   = 4 << 10
	mostStacks = 64 << 10
)

type detailKey struct {
	state               State
	title, text, stacks string
}

// addDetails adds the failures of s that none of its inner steps reports, and
// its stacks. For a running step it adds the reason why it has not ended and
// its share of the time. It reports whether it has added any.
func (b *builder) addDetails(s *Step, state State, waits string, in path) bool {
	errs := s.own()
	if len(errs) == 0 && s.Abandoned {
		errs = []error{errAbandoned}
	}
	d := Detail{State: state, Stacks: s.Stacks, Since: s.Start}
	if state == Running && len(s.Steps) == 0 {
		d.Share = s.Share()
	}
	if len(errs) == 0 && s.Stacks == "" && waits == "" && d.Share == 0 {
		return false
	}
	in = in.with(shortTitle(s.Name, s.Site))
	if len(errs) == 0 {
		d.Title, d.Text = in.String(), waits
		b.add(d)
	}
	for _, err := range errs {
		b.tell(d, in, err)
		d.Stacks = "" // shown once
	}
	return true
}

var errAbandoned = errors.New("abandoned")

// tell adds err, a failure of the last step of in, or of the event if in is
// empty.
func (b *builder) tell(d Detail, in path, err error) {
	if e, ok := err.(Named); ok {
		name, site, inner := e.Failure()
		in, err = in.with(shortTitle(name, site)), inner
	}
	if d.Stacks == "" && b.PanicStack != nil {
		d.Stacks = b.PanicStack(err)
	}
	d.Title = in.String()
	d.Text = text.Error(err)
	b.Failures++
	b.add(d)
}

// add adds d, or counts it if there is an equal detail. Only the texts of a new
// detail are cut and escaped, so many equal details are cheap.
func (b *builder) add(d Detail) {
	key := detailKey{d.State, d.Title, d.Text, d.Stacks}
	if i, ok := b.details[key]; ok {
		b.Details[i].Count++
		if d.Since.Before(b.Details[i].Since) {
			b.Details[i].Since = d.Since
		}
		return
	}
	b.details[key] = len(b.Details)
	d.Text = strings.TrimPrefix(strings.ReplaceAll("\n"+d.Text, "\nquit: ", "\n"), "\n")
	d.Text = text.Lines(d.Text, mostText)
	d.Stacks = text.Lines(d.Stacks, mostStacks)
	d.Count = 1
	b.Details = append(b.Details, d)
}

// Times returns the number of failures as "×3", and "" for one.
func (d *Detail) Times() string { return times(d.Count) }

// own returns the failures of s that none of its inner steps reports.
func (s *Step) own() []error {
	switch {
	case s.Err == nil:
		return nil
	case len(s.Steps) == 0:
		return s.errs()
	}
	return untold(parts(s.Err), s.Steps)
}

// errs returns the failures of s. A step may fail more than once.
func (s *Step) errs() []error {
	if l, ok := s.Err.(List); ok {
		return l.List()
	}
	return []error{s.Err}
}

// parts returns the errors that were joined to err.
func parts(err error) []error {
	list, ok := listOf(err)
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range list {
		all = append(all, parts(e)...)
	}
	return all
}

var joined = reflect.TypeOf(errors.Join(errors.ErrUnsupported))

// listOf returns the errors in err if err is a List or comes from errors.Join.
// Other errors that wrap several may have a text of their own.
func listOf(err error) (list []error, ok bool) {
	if l, ok := err.(List); ok {
		return l.List(), true
	}
	if reflect.TypeOf(err) == joined {
		return err.(interface{ Unwrap() []error }).Unwrap(), true
	}
	return nil, false
}

// failure identifies one failure of a step. err is the error itself if it can
// be compared, and its text otherwise. The text may be long, since that of a
// nested event repeats the texts of all inner steps.
type failure struct {
	name, site string
	err        any
}

func failureOf(name, site string, err error) failure {
	if v := reflect.ValueOf(err); v.IsValid() && v.Comparable() {
		return failure{name, site, err}
	}
	return failure{name, site, text.Error(err)}
}

// untold returns the errors in errs, the failures of an event, that none of its
// steps reports.
func untold(errs []error, steps []Step) (rest []error) {
	if len(errs) == 0 {
		return nil
	}
	open := make(map[failure]int) // failures that the steps report, with their number
	for i := range steps {
		s := &steps[i]
		if s.Err == nil {
			continue
		}
		for _, e := range s.errs() {
			open[failureOf(s.Name, s.Site, e)]++
		}
	}
	for _, err := range errs {
		if e, ok := err.(Named); ok {
			if f := failureOf(e.Failure()); open[f] > 0 {
				if open[f]--; open[f] == 0 {
					delete(open, f)
				}
				continue
			}
		}
		rest = append(rest, err)
	}
	if len(rest) == 0 || len(open) == 0 {
		return rest
	}
	return unsaid(rest, open)
}

// unsaid leaves out the lines of errs that repeat a step's failure as text.
func unsaid(errs []error, open map[failure]int) (rest []error) {
	said := make(map[string]bool)
	for f := range open {
		s, isText := f.err.(string)
		if !isText {
			s = text.Error(f.err.(error))
		}
		title := Title(f.name, f.site) + ": "
		for line := range linesOf(s) {
			said[line], said[title+line] = true, true
		}
	}
	for _, err := range errs {
		var kept []string
		all := true
		for line := range linesOf(text.Error(err)) {
			if said[line] {
				all = false
			} else {
				kept = append(kept, line)
			}
		}
		switch {
		case all:
			rest = append(rest, err)
		case len(kept) > 0:
			rest = append(rest, errors.New(strings.Join(kept, "\n")))
		}
	}
	return rest
}

// linesOf returns the lines of the text of an error, without their prefix.
func linesOf(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(strings.TrimRight(s, "\n"), "\n") {
			if !yield(strings.TrimPrefix(line, "quit: ")) {
				return
			}
		}
	}
}

// ErrorText returns the text of err. Each line of a Named error begins with the
// names of its steps, the outermost first. The cost is linear in the length of
// the text, unlike that of Error methods that call each other.
func ErrorText(err error) string {
	const unlimited = 1<<63 - 1
	s, _ := errorText(err, unlimited)
	return s
}

// errorText is ErrorText with a limit, and reports whether the text is
// complete.
func errorText(err error, most int64) (s string, all bool) {
	w := errorWriter{most: most}
	all = w.write(err)
	return w.b.String(), all
}

type errorWriter struct {
	b     strings.Builder
	names []byte // of the steps of the error
	most  int64
}

// write writes err and reports whether there was room for it.
func (w *errorWriter) write(err error) bool {
	if e, ok := err.(Named); ok {
		name, site, inner := e.Failure()
		n := len(w.names)
		w.names = append(w.names, Title(name, site)+": "...)
		all := int64(len(w.names)) <= w.most && w.write(inner)
		w.names = w.names[:n]
		return all
	}
	if list, ok := listOf(err); ok {
		for _, e := range list {
			if !w.write(e) {
				return false
			}
		}
		return true
	}
	for line := range strings.SplitSeq(strings.TrimRight(text.Error(err), "\n"), "\n") {
		if int64(w.b.Len()+len(w.names)+len(line)) > w.most {
			return false
		}
		if w.b.Len() > 0 {
			w.b.WriteByte('\n')
		}
		if len(w.names) > 0 {
			line = strings.TrimPrefix(line, "quit: ")
			w.b.WriteString("quit: ")
		}
		w.b.Write(w.names)
		w.b.WriteString(line)
	}
	return true
}
