package stacks

import (
	"context"
	"reflect"
	"runtime/pprof"
	"sync"
	"unsafe"
)

// Labels are the labels of a goroutine. They are comparable; two that are equal
// are the same.
type Labels struct{ p unsafe.Pointer } // a *labelMap of runtime/pprof; nil: none

// Inherited returns the labels of the calling goroutine, which a goroutine that
// it starts inherits.
func Inherited() Labels { return Labels{getProfLabel()} }

// Extend returns ctx with the labels l, the name and one more owner. It reports
// whether l are no labels, or labels that have the owner already: those are few,
// while those of others may be new ones for each request.
func (l Labels) Extend(ctx context.Context, name, owner string) (extended context.Context, few bool) {
	if l.p == nil {
		return Label(ctx, name, owner), true
	}
	key, mapType := labelMap()
	ctx = context.WithValue(ctx, key, reflect.NewAt(mapType, l.p).Interface())
	if OwnedBy(ctx, owner) {
		owners, _ := pprof.Label(ctx, ownerLabel)
		return Label(ctx, name, owners), true
	}
	if owners, ok := pprof.Label(ctx, ownerLabel); ok {
		owner = owners + " " + owner
	}
	return Label(ctx, name, owner), false
}

// labelMap returns the key under which a context has its labels, and the type
// that the value points to.
var labelMap = sync.OnceValues(func() (key any, mapType reflect.Type) {
	spy := &keySpy{Context: context.Background()}
	ctx := pprof.WithLabels(spy, pprof.Labels("a", "b"))
	return spy.key, reflect.TypeOf(ctx.Value(spy.key)).Elem()
})

// keySpy learns a key by which it is asked for a value.
type keySpy struct {
	context.Context
	key any
}

func (s *keySpy) Value(key any) any {
	s.key = key
	return nil
}
