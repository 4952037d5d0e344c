// Package stacks finds the goroutines that hold up a step. Profiler labels give
// a goroutine its name and the ids of its owners. An owner is a step or an
// event that waits for the goroutine. A goroutine inherits the labels of the
// goroutine that starts it.
package stacks

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/gracefulgo/graceful/internal/text"
)

const (
	nameLabel  = "quit"
	ownerLabel = "quit.id" // ids separated by spaces; names need not be unique
)

// Label returns ctx with the labels of the goroutines of owner.
func Label(ctx context.Context, name, owner string) context.Context {
	return pprof.WithLabels(ctx, pprof.Labels(nameLabel, name, ownerLabel, owner))
}

// LabelAs returns ctx with the name and the owners of like, and one more owner.
func LabelAs(like, ctx context.Context, owner string) context.Context {
	name, _ := pprof.Label(like, nameLabel)
	owners, _ := pprof.Label(like, ownerLabel)
	return Label(ctx, name, owners+" "+owner)
}

// Handed returns ctx with the name of like, and with owner as the only owner.
// It is for a goroutine for which the owners of like no longer wait.
func Handed(like, ctx context.Context, owner string) context.Context {
	name, _ := pprof.Label(like, nameLabel)
	return Label(ctx, name, owner)
}

// Join returns ctx with one more owner, and with the name if it had none.
func Join(ctx context.Context, name, owner string) context.Context {
	if _, ok := pprof.Label(ctx, ownerLabel); ok {
		return LabelAs(ctx, ctx, owner)
	}
	return Label(ctx, name, owner)
}

// OwnedBy reports whether owner is one of the owners in the labels of ctx. It
// is called for each request, and does not allocate.
func OwnedBy(ctx context.Context, owner string) bool {
	owners, _ := pprof.Label(ctx, ownerLabel)
	for o := range strings.FieldsSeq(owners) {
		if o == owner {
			return true
		}
	}
	return false
}

// ID returns the id of *p as an owner. It is unique among all values that live
// on the heap.
func ID[T any](p *T) string {
	return strconv.FormatUint(uint64(uintptr(unsafe.Pointer(p))), 16)
}

// Owner is a closer that waits for its own goroutines. The type OwnerID tells
// it apart from a user's closer that has some other Owner method.
type Owner interface {
	Owner() OwnerID
	Detail() string // such as "3 busy connections"; "" if it waits for nothing
}

// OwnerID is the id of an Owner.
type OwnerID string

// Error is the error of a closer that gave up, with the stacks of the
// goroutines that it was waiting for.
type Error struct {
	Err    error
	Stacks string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// All returns the stacks of all labelled goroutines, by the ids of their
// owners. The stacks are those of some moment after the call. Calls at the same
// time share one look at the goroutines.
func All() map[string]string {
	mine := looks.begun.Load()
	looks.waiting.Add(1)
	looks.mu.Lock()
	defer looks.mu.Unlock()
	if looks.number <= mine { // the last look began before the call
		looks.number = looks.begun.Add(1)
		looks.all = look()
	}
	all := looks.all
	if looks.waiting.Add(-1) == 0 {
		looks.all, looks.number = nil, 0 // a later call needs a later look
	}
	return all
}

// looks is the state of the looks that calls to All share.
var looks struct {
	begun   atomic.Int64 // number of looks that have begun; a call needs a later one
	waiting atomic.Int64 // calls that have no look yet

	mu     sync.Mutex // guards the fields below, and is held during a look
	number int64      // of the last look; 0: none is kept
	all    map[string]string
}

// look takes the stacks from the goroutine profile. The profile folds identical
// stacks into one with a count. So it is small even if there are many
// goroutines.
func look() map[string]string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return nil
	}
	return drawAll(profile.String())
}

// drawAll draws the stacks in a profile, by their owners. If few stacks are
// identical, as when each goroutine has its own name, it keeps the most
// frequent ones and counts the others.
func drawAll(profile string) map[string]string {
	const most = 50                             // stacks of an owner
	_, records, _ := strings.Cut(profile, "\n") // without the profile's first line
	type held struct {
		text         strings.Builder
		stacks, more int // more counts the goroutines whose stacks are left out
	}
	byOwner, known := make(map[string]*held), make(map[string]string)
	for record := range strings.SplitSeq(records, "\n\n") { // the most frequent first
		owners := labelIn(record, ownerLabel)
		drawn := ""
		if owners != "" {
			drawn = draw(record, known)
		}
		if drawn == "" {
			continue
		}
		for owner := range strings.FieldsSeq(owners) {
			h := byOwner[owner]
			if h == nil {
				h = new(held)
				byOwner[owner] = h
			}
			if h.stacks++; h.stacks <= most {
				h.text.WriteString(drawn)
			} else {
				n, _ := strconv.Atoi(count(record))
				h.more += n
			}
		}
	}
	all := make(map[string]string, len(byOwner))
	for owner, h := range byOwner {
		if h.more > 0 {
			fmt.Fprintf(&h.text, "… and %d more, with other stacks or names\n", h.more)
		}
		all[owner] = h.text.String()
	}
	return all
}

// count returns the number of goroutines in a record of the profile.
func count(record string) string {
	n, _, _ := strings.Cut(strings.TrimSpace(record), " ")
	return n
}

// labelIn returns a label in a record of the profile, or "". The second line of
// a record is
//
//	# labels: {"quit":"the name", "quit.id":"c000012345"}
func labelIn(record, key string) string {
	_, labels, _ := strings.Cut(record, "\n# labels: {")
	labels, _, _ = strings.Cut(labels, "\n")
	_, quoted, _ := strings.Cut(" "+labels, ` "`+key+`":`)
	quoted, _ = strconv.QuotedPrefix(quoted)
	value, _ := strconv.Unquote(quoted)
	return value
}

// draw draws a record of the profile in the style of a panic:
//
//	2 goroutines of consumer:
//		main.(*consumer).read
//			/src/consumer/main.go:42
//
// known has the frames that have been drawn. In a crowd of goroutines, most
// frames are the same.
func draw(record string, known map[string]string) string {
	_, frames, _ := strings.Cut(record, "\n#\t")
	drawn, ok := known[frames]
	if !ok {
		drawn = drawFrames("#\t" + frames)
		known[frames] = drawn
	}
	if drawn == "" {
		return ""
	}
	n := count(record)
	noun := " goroutines of "
	if n == "1" {
		noun = " goroutine of "
	}
	return n + noun + text.OneLine(labelIn(record, nameLabel)) + ":\n" + drawn
}

// drawFrames draws the frames of a record, whose lines are "#", an address, the
// func and its file, separated by tabs. It leaves out the frames at the end
// that call the closer or handler. It returns "" for a goroutine of net/http
// that belongs to the connection of another goroutine, and for that of
// os/signal, which has the labels of the first goroutine that handled a signal.
func drawFrames(record string) string {
	const maxFrames = 24
	var frames []string
	last := 0 // the number of frames up to the last that is not such a caller
	for line := range strings.SplitSeq(record, "\n") {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' })
		if len(fields) != 4 || fields[0] != "#" {
			continue
		}
		name, _, _ := strings.Cut(fields[2], "+0x")
		if name == "os/signal.loop" || isOfNetHTTP(name, ").backgroundRead", ").readLoop",
			").writeLoop", ").readFrames", "erverConn).serve") {
			return ""
		}
		frames = append(frames, "\t"+name+"\n\t\t"+fields[3]+"\n")
		if !isOurs(name) && !isOfNetHTTP(name, "(*conn).serve", ").runHandler", ".ServeHTTP") {
			last = len(frames)
		}
	}
	if last > 0 {
		frames = frames[:last]
	}
	more := ""
	if n := len(frames) - maxFrames; n > 0 {
		frames, more = frames[:maxFrames], fmt.Sprintf("\t… %d more frames\n", n)
	}
	return strings.Join(frames, "") + more
}

// isOfNetHTTP reports whether name is that of a func in net/http or in a
// package below it, and has one of the suffixes.
func isOfNetHTTP(name string, ends ...string) bool {
	if !strings.HasPrefix(name, "net/http.") && !strings.HasPrefix(name, "net/http/internal/") {
		return false
	}
	for _, end := range ends {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

var module = strings.TrimSuffix(reflect.TypeFor[Error]().PkgPath(), "internal/stacks")

func isOurs(name string) bool {
	return strings.HasPrefix(name, module+"quit.") ||
		strings.HasPrefix(name, module+"quit/quithttp.")
}

// Looks returns the number of looks at the goroutines so far. It is for tests.
func Looks() int64 { return looks.begun.Load() }
