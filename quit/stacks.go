package quit

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime/pprof"
	"strconv"
	"strings"
	"unsafe"
)

// Labels by which goroutines are found in a profile: their name, and whose they
// are, since names need not be unique. What a goroutine starts inherits them.
const (
	nameLabel  = "quit"
	ownerLabel = "quit.id"
)

// label returns ctx with the labels of the goroutines of owner.
func label(ctx context.Context, name, owner string) context.Context {
	return pprof.WithLabels(ctx, pprof.Labels(nameLabel, name, ownerLabel, owner))
}

// ownerID returns what identifies *p among all that live.
func ownerID[T any](p *T) string {
	return strconv.FormatUint(uint64(uintptr(unsafe.Pointer(p))), 16)
}

// stacks returns the stacks of all labelled goroutines by their owner. It is made
// of the goroutine profile, which folds identical ones into one with a count: so it
// is small also where there are many goroutines, and these are not stopped one by one.
func stacks() map[string]string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return nil
	}
	_, records, _ := strings.Cut(profile.String(), "\n") // the first line is the profile's own
	byOwner := make(map[string]string)
	for record := range strings.SplitSeq(records, "\n\n") {
		if owner, ok := labelIn(record, ownerLabel); ok {
			byOwner[owner] += drawStack(record)
		}
	}
	return byOwner
}

// labelIn returns a label of a record of the profile, whose second line is
//
//	# labels: {"quit":"the name", "quit.id":"c000012345"}
func labelIn(record, key string) (value string, ok bool) {
	_, labels, _ := strings.Cut(record, "\n# labels: {")
	labels, _, _ = strings.Cut(labels, "\n")
	_, quoted, ok := strings.Cut(" "+labels, ` "`+key+`":`)
	if !ok {
		return "", false
	}
	quoted, err := strconv.QuotedPrefix(quoted)
	if err != nil {
		return "", false
	}
	value, err = strconv.Unquote(quoted)
	return value, err == nil
}

// drawStack draws a record of the profile like the stacks of a panic:
//
//	2 goroutines of consumer:
//		main.(*consumer).read
//			/src/consumer/main.go:42
//
// The record has lines of "#", an address, the func and its file, with tabs
// between. Our own frames, below the closer, are left out.
func drawStack(record string) string {
	const maxFrames = 24
	own := reflect.TypeFor[QuitEvent]().PkgPath() + "."
	var frames []string
	last := 0 // the frames up to the last that is not our own
	for line := range strings.SplitSeq(record, "\n") {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' })
		if len(fields) != 4 || fields[0] != "#" {
			continue
		}
		name, _, _ := strings.Cut(fields[2], "+0x")
		frames = append(frames, "\t"+name+"\n\t\t"+fields[3]+"\n")
		if !strings.HasPrefix(name, own) {
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
	count, _, _ := strings.Cut(strings.TrimSpace(record), " ")
	noun := " goroutines of "
	if count == "1" {
		noun = " goroutine of "
	}
	name, _ := labelIn(record, nameLabel)
	return count + noun + oneLine(name) + ":\n" + strings.Join(frames, "") + more
}
