//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// platform is a system, a processor, or a setting of Go on which tests are run.
type platform struct {
	name    string
	needs   []string                                // commands
	prepare func(ctx context.Context, u *use) error // may be nil
	env     []string
	args    []string // of go test
	exec    string   // of go test

	version []string // a command whose first line names the runner; none: this machine

	short, long selection
	leftOut     []leftOut
}

// selection selects the tests, apart from those that are left out.
type selection struct {
	packages []string // none: the platform is not in the short form
	run      string   // a regular expression; "" for all
}

// leftOut is a test that a platform cannot run, with the reason.
type leftOut struct{ test, why string }

var (
	core     = []string{"./quit"}
	packages = []string{"./quit/...", "./internal/..."}
	public   = []string{"./quit/..."}
)

// quick selects the tests of code that depends on the processor and on the
// scheduler: the counter, the fire, the registry, the stacks, the signals.
const quick = "^(Test(Drain|Count|Fire|Fired|TryAdd|DoneHappens|Unregister|Once|Labels|" +
	"StacksOnce|ReportIsOneMoment|ManyClosers|Errors|TypedNil|ChildTwo|" +
	"ChildInterruptEndsDelay|ChildForced).*|Example.*)$"

// Reasons.
const (
	allHistories = "all histories of the schedule, with nothing concurrent in it, take many " +
		"minutes here"
	speaksHTTP2  = "has a client that speaks HTTP/2"
	usesSynctest = "uses testing/synctest, which does not work with asynctimerchan"
	wineFiles    = "all of it passes, but then Wine 8 cannot remove the files of the certificate"
)

var wasmLeftOut = []leftOut{
	{"TestExplore", allHistories},
	{"TestProgramsOfFirstPackage", "a worker polls without a pause, and nothing is preempted"},
	{"ExampleSignalError", "needs the number of a signal"},
}

var platforms = []*platform{
	{
		name:  "linux/386",
		env:   []string{"GOARCH=386", "CGO_ENABLED=0"},
		short: selection{core, quick},
		long:  selection{packages, ""},
	},
	{
		name:    "musl",
		needs:   []string{"musl-gcc"},
		env:     []string{"CGO_ENABLED=1", "CC=musl-gcc"},
		args:    []string{"-ldflags=-linkmode external -extldflags -static"},
		version: []string{"musl-gcc", "--version"},
		short:   selection{},
		long:    selection{public, ""},
	},
	emulated("linux/s390x", "s390x", "qemu-s390x-static", true), // big-endian
	emulated("linux/arm64", "arm64", "qemu-aarch64-static", false),
	{
		name:    "windows/amd64",
		needs:   []string{"wine"},
		prepare: prepareWine,
		env:     []string{"GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "WINEDEBUG=-all"},
		args:    []string{"-short"},
		exec:    "wine",
		version: []string{"wine", "--version"},
		short:   selection{core, quick + "|^TestCtrlC$"},
		long:    selection{public, ""},
		leftOut: []leftOut{
			{"TestExplore", allHistories},
			{"TestDocsStuck", "expects the folders of Windows, but is built with those of Linux"},
			{"TestServeTLS", wineFiles},
			{"TestListenAndServeTLSErrors", wineFiles},
			{"TestDefaultAddr", wineFiles},
		},
	},
	{
		name:    "js/wasm",
		needs:   []string{"node"},
		prepare: prepareWasm,
		env:     []string{"GOOS=js", "GOARCH=wasm"},
		args:    []string{"-short"},
		version: []string{"node", "--version"},
		short:   selection{core, quick + "|^TestNoNumbers$"},
		long:    selection{[]string{"./quit", "./quit/quittest"}, ""},
		leftOut: wasmLeftOut,
	},
	{
		name:    "wasip1/wasm",
		prepare: prepareWazero,
		env:     []string{"GOOS=wasip1", "GOARCH=wasm", "GOWASIRUNTIME=wazero"},
		args:    []string{"-short"},
		version: []string{"wazero", "version"},
		short:   selection{},
		// All of it took more than five minutes.
		long:    selection{core, quick + "|^TestNoNumbers$"},
		leftOut: wasmLeftOut,
	},
	{
		name:  "go1.25.0",
		env:   []string{"GOTOOLCHAIN=go1.25.0"},
		short: selection{}, // CI runs it anyway
		long:  selection{packages, ""},
	},
	{
		name:    "cpu",
		args:    []string{"-cpu=1,2,16"},
		short:   selection{core, quick},
		long:    selection{core, ""},
		leftOut: []leftOut{{"TestExplore", "nothing in it is concurrent"}},
	},
	{
		// These are the settings of a program whose go.mod has an old go line.
		// Settings that do not affect the packages are left out: those of
		// archives, cryptography, the go command, templates.
		name: "GODEBUG/go1.20",
		env: []string{"GODEBUG=" +
			"panicnil=1," + // recover returns nil after panic(nil)
			"httplaxcontentlength=1," + // requests
			"httpmuxgo121=1," + // no methods in the patterns of a mux
			"httpservecontentkeepheaders=1," + // answers that are errors
			"multipathtcp=0," + // listeners, whose queues quithttp reads
			"tls10server=1,tlsrsakex=1,x509keypairleaf=0," + // ListenAndServeTLS
			"randseednop=0,containermaxprocs=0,updatemaxprocs=0,decoratemappings=0"},
		short:   selection{core, quick},
		long:    selection{public, ""},
		leftOut: []leftOut{{"TestExplore", "uses nothing that these settings change"}},
	},
	{
		name: "GODEBUG/asynctimerchan",
		env:  []string{"GODEBUG=asynctimerchan=1"},
		short: selection{core,
			"^TestChild(Two|InterruptEndsDelay|Generations|LastLines|Forced).*$"},
		// testing/synctest panics with it: the tests left run in real time.
		long: selection{core,
			"^(Test(Child|Drain|TryAdd|Fire|Unregister|Once|DoneHappens).*|Example.*)$"},
		leftOut: []leftOut{
			{"TestChildBubbleAlone", usesSynctest},
			{"TestChildGoesOn", usesSynctest},
			{"TestChildHangs", usesSynctest},
			{"TestChildIsSlow", usesSynctest},
			{"TestChildOfAnotherShutdown", usesSynctest},
			{"TestChildOfTwoParents", usesSynctest},
			{"TestDrainEndsAtTheLast", usesSynctest},
		},
	},
	{
		name:  "GODEBUG/http2",
		env:   []string{"GODEBUG=http2client=0,http2server=0"},
		short: selection{},
		long:  selection{[]string{"./quit/quithttp"}, ""},
		leftOut: []leftOut{
			{"TestServeTLS", speaksHTTP2},
			{"TestStacksOfHandlers", speaksHTTP2},
			{"TestStatusHTTP2", speaksHTTP2},
			{"TestStopCallsHooks", speaksHTTP2},
			{"TestStopHTTP2", speaksHTTP2},
			{"TestStopHTTP2Endless", speaksHTTP2},
			{"TestStopHTTP2Idle", speaksHTTP2},
			{"TestStopHTTP2Regular", speaksHTTP2},
			{"TestStopHTTP2Tells", speaksHTTP2},
			{"TestStopHTTP2Unused", speaksHTTP2},
			{"TestStopShortOfTime", speaksHTTP2},
			{"TestStopUnderLoad", speaksHTTP2},
		},
	},
	{
		name:    "goroutineleakprofile",
		env:     []string{"GOEXPERIMENT=goroutineleakprofile"},
		short:   selection{core, quick},
		long:    selection{public, ""},
		leftOut: []leftOut{{"TestExplore", "starts no goroutine"}},
	},
}

// emulated is Linux on another processor, under QEMU. Processes started by
// tests run under it too.
func emulated(name, arch, qemu string, short bool) *platform {
	p := &platform{
		name:    name,
		needs:   []string{qemu},
		env:     []string{"GOARCH=" + arch, "CGO_ENABLED=0", "QUIT_TEST_EXEC=" + qemu},
		args:    []string{"-short"},
		exec:    qemu,
		version: []string{qemu, "--version"},
		// QEMU 7.2 probably does not support the socket options of quithttp:
		// SO_BINDTOIFINDEX, TCP_INFO, sock_diag. Its tests fail there.
		long: selection{[]string{"./quit", "./quit/quittest", "./internal/..."}, ""},
		leftOut: []leftOut{
			{"TestExplore", allHistories},
			{"TestStacksOfWhatHangsRealTime",
				"60 shutdowns in real time, each of which is tried again with twice the time"},
		},
	}
	if short {
		p.short = selection{core, quick}
	}
	return p
}

// prepareWine makes the folder that Wine uses as the disk of a computer.
func prepareWine(ctx context.Context, u *use) error {
	prefix := filepath.Join(u.temp, "wine")
	// These ask to be installed.
	u.env = append(u.env, "WINEPREFIX="+prefix, "WINEDLLOVERRIDES=mscoree,mshtml=")
	if out, err := u.command(ctx, u, "wine", "wineboot", "--init").CombinedOutput(); err != nil {
		return fmt.Errorf("wineboot: %w\n%s", err, out)
	}
	u.end = func() { // a server, of this folder alone, would live on for some seconds
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		u.command(ctx, u, "wine", "wineboot", "--kill").Run()
	}
	system := filepath.Join(prefix, "drive_c", "windows", "system32")
	const library = "bcryptprimitives.dll"
	if _, err := os.Stat(filepath.Join(system, library)); err == nil {
		return nil // of a newer Wine
	}
	code := forwarder(library, "ProcessPrng", "ADVAPI32.SystemFunction036")
	return os.WriteFile(filepath.Join(system, library), code, 0o644)
}

func prepareWasm(ctx context.Context, u *use) error {
	u.exec = filepath.Join(u.goroot, "lib", "wasm", "go_js_wasm_exec")
	return nil
}

func prepareWazero(ctx context.Context, u *use) error {
	install := u.command(ctx, u, "go", "install",
		"github.com/tetratelabs/wazero/cmd/wazero@v1.12.0")
	install.Env = append(os.Environ(), "GOBIN="+u.temp)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", install, err, out)
	}
	temp, err := os.MkdirTemp(u.temp, "") // for Wine's data about programs too
	if err != nil {
		return err
	}
	u.env = append(u.env, "TMPDIR="+temp)
	u.exec = filepath.Join(u.goroot, "lib", "wasm", "go_wasip1_wasm_exec")
	return nil
}
