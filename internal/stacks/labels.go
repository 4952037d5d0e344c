package stacks

import (
	"context"
	"reflect"
	"runtime/pprof"
	"sync"
	"unsafe"
)

// Labels are the labels of a goroutine. Two Labels are equal (==) only if they
// are the same.
type Labels struct{ p unsafe.Pointer } // a *labelMap of runtime/pprof; nil: none

// Inherited returns the labels of the calling goroutine. A goroutine that it
// starts inherits them.
func Inherited() Labels { return Labels{getProfLabel()} }

// Of returns the labels of ctx.
func Of(ctx context.Context) Labels {
	key, _ := labelMap()
	v := reflect.ValueOf(ctx.Value(key))
	if !v.IsValid() {
		return Labels{}
	}
	return Labels{v.UnsafePointer()}
}

// Extend returns ctx with the labels l, the name and one more owner.
func (l Labels) Extend(ctx context.Context, name, owner string) context.Context {
	if l.p == nil {
		return Label(ctx, name, owner)
	}
	key, mapType := labelMap()
	ctx = context.WithValue(ctx, key, reflect.NewAt(mapType, l.p).Interface())
	owners, ok := pprof.Label(ctx, ownerLabel)
	switch {
	case OwnedBy(ctx, owner):
		owner = owners
	case ok:
		owner = owners + " " + owner
	}
	return Label(ctx, name, owner)
}

// labelMap returns the context key of labels, and the type that the value
// points to.
var labelMap = sync.OnceValues(func() (key any, mapType reflect.Type) {
	spy := &keySpy{Context: context.Background()}
	ctx := pprof.WithLabels(spy, pprof.Labels("a", "b"))
	return spy.key, reflect.TypeOf(ctx.Value(spy.key)).Elem()
})

// keySpy is a context that records the key passed to Value.
type keySpy struct {
	context.Context
	key any
}

func (s *keySpy) Value(key any) any {
	s.key = key
	return nil
}
