package quit

import (
	"path"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

// callerOutside returns the program counter of the user's call into this
// package or into quithttp.
func callerOutside() uintptr {
	var pcs [16]uintptr
	n := runtime.Callers(2, pcs[:])
	for _, pc := range pcs[:n] {
		f := runtime.FuncForPC(pc - 1) // pc is the return address, after the call
		if f == nil || !strings.HasPrefix(f.Name(), ownPath+".") &&
			!strings.HasPrefix(f.Name(), ownPath+"/quithttp.") {
			return pc
		}
	}
	return pcs[0]
}

var ownPath = reflect.TypeFor[QuitEvent]().PkgPath()

// siteOutside returns the site of callerOutside.
func siteOutside() string { return siteName(callerOutside()) }

// siteName returns the place of pc in the source, as dir/file.go:line.
func siteName(pc uintptr) string {
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if f.File == "" {
		return "unknown"
	}
	dir, file := path.Split(f.File)
	return path.Join(path.Base(dir), file) + ":" + strconv.Itoa(f.Line)
}

func typeName(v any) string { return reflect.TypeOf(v).String() }

// codeOf returns the address of the code of the func f.
func codeOf(f any) uintptr { return reflect.ValueOf(f).Pointer() }

// funcName returns the symbol of the code at pc without the path of its
// package: "grpc.(*Server).GracefulStop", "bar/v2.Close".
func funcName(pc uintptr) string {
	f := runtime.FuncForPC(pc)
	if f == nil {
		return "func"
	}
	return shortSymbol(f.Name())
}

func shortSymbol(s string) string {
	s = strings.TrimSuffix(s, "-fm") // a method value
	path := s
	if i := strings.IndexByte(s, '['); i >= 0 {
		path = s[:i] // type arguments have paths of their own
	}
	cut := strings.LastIndexByte(path, '/') + 1
	if last, _, _ := strings.Cut(path[cut:], "."); isVersion(last) {
		cut = strings.LastIndexByte(path[:max(cut-1, 0)], '/') + 1
	}
	return strings.ReplaceAll(s[cut:], "%2e", ".") // as in gopkg.in/yaml%2ev3
}

// isVersion reports whether s is a major version, such as v2, at the end of a
// module path. Alone, it would be a poor name.
func isVersion(s string) bool {
	digits, ok := strings.CutPrefix(s, "v")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
