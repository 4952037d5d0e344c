package rows

// Quit is the peer that all others are compared with.
const Quit = "quit"

// Operation is measured by one benchmark, for each peer that has it.
type Operation struct {
	Benchmark string // its name, without "Benchmark"
	Title     string
	Text      string // the description, in Markdown
	Baseline  string // the peer that the ratios refer to
	Key       string // of the rows: "n", "procs" and so on; empty if there is one row
	Measures  []Measure

	Picture *Picture // of the first measure; nil if there is none
}

// Picture is the curve of an operation, for some peers.
type Picture struct {
	File            string // in docs
	Title, Subtitle string
	X               string // the meaning of the key
	Peers           []Label
}

// Label is the name of a peer in a picture.
type Label struct{ Peer, Label string }

// Measure is one of the figures of a benchmark.
type Measure struct {
	Unit  string // as benchmarks write it
	Title string // of its table, if there are several
	Short string // the same for the list of peers that cost less
	PerN  bool   // it is shown divided by n
}

var perOp = []Measure{{Unit: "ns/op"}}

// Operations are all operations, in the order of the report.
var Operations = []Operation{
	{
		Benchmark: "HasFired", Title: "Has it fired?",
		Baseline: "hand", Key: "procs", Measures: perOp,
		Text: "100 calls, before the fire, on each of GOMAXPROCS goroutines. " +
			"`hand` is `ctx.Err()`, which users of errgroup, conc and suture call too. " +
			"`hand.select` is a select on `ctx.Done()`.",
	},
	{
		Benchmark: "AddDone", Title: "Counting a goroutine in and out",
		Baseline: "hand", Key: "procs", Measures: perOp,
		Text: "An Add and a Done, on each of GOMAXPROCS goroutines. `hand` is a `sync.WaitGroup`.",
		Picture: &Picture{
			File: "cost-counting.svg", Title: "Counting a goroutine in and out",
			Subtitle: "An Add and a Done, time divided by all that were done, " +
				"while GOMAXPROCS goroutines do nothing else",
			X: "GOMAXPROCS",
			Peers: []Label{
				{"quit", "quit"}, {"hand", "sync.WaitGroup"},
				{"quit.TryAdd", "quit, TryAddGoroutine"},
			},
		},
	},
	{
		Benchmark: "Go", Title: "Starting a goroutine",
		Baseline: "errgroup", Key: "procs", Measures: perOp,
		Text: "GOMAXPROCS goroutines start others, with a func that returns nil. " +
			"`quit.Name` gives the goroutine a name, in its pprof labels. " +
			"`hand.labels` does that by `pprof.Do`. `hand` is `sync.WaitGroup.Go`. " +
			"A service of suture may be restarted, and has a name too.",
	},
	{
		Benchmark: "Register", Title: "Register and unregister",
		Baseline: "context", Key: "n", Measures: perOp,
		Text: "With n registered. `context` is `context.AfterFunc` and its stop func. " +
			"`hand` is a map under a mutex. " +
			"A service of suture is a goroutine, which is started and told to stop.",
		Picture: &Picture{
			File: "cost-register.svg", Title: "Registering a closer and taking it out again",
			Subtitle: "The time for both, while others are registered",
			X:        "closers registered already",
			Peers: []Label{
				{"quit", "quit"}, {"context", "context.AfterFunc, stop"},
				{"hand", "map and mutex"}, {"suture", "suture, a service"},
			},
		},
	},
	{
		Benchmark: "Shutdown", Title: "The shutdown of n closers that do nothing",
		Baseline: "hand", Key: "n",
		Measures: []Measure{
			{Unit: "ns/op", Title: "The shutdown, a closer", Short: "the shutdown", PerN: true},
			{
				Unit: "register-ns/op", PerN: true,
				Title: "The registration before it, a closer", Short: "the registration",
			},
		},
		Text: "`hand` is a loop over a slice. A closer that hangs or panics keeps the " +
			"others from being called. " +
			"`hand.bounded` calls each closer in a goroutine with a time limit and a recover. " +
			"fx and kratos call their hooks one by one on one goroutine. go-zero and " +
			"do call all at once. " +
			"A shutdown of quit has a fixed cost. " +
			"Most of it is that of os/signal, which begins and ends to hold back SIGPIPE. " +
			"Inside another event's shutdown that has been done before: see the wait below.",
		Picture: &Picture{
			File: "cost-shutdown.svg", Title: "A shutdown, for each of its closers",
			Subtitle: "Closers that do nothing: the time of the whole shutdown, " +
				"divided by their number",
			X: "closers",
			Peers: []Label{
				{"quit", "quit"}, {"hand.bounded", "by hand, each with a limit"},
				{"hand", "by hand, a loop"},
				{"fx", "fx"}, {"go-zero", "go-zero"},
				{"samber-do", "samber/do"}, {"kratos", "kratos"},
			},
		},
	},
	{
		Benchmark: "Drain", Title: "The end of n goroutines", Baseline: "hand", Key: "n",
		Measures: []Measure{
			{
				Unit: "ns/op", PerN: true, Short: "until the last has ended",
				Title: "From the fire until the last of n has ended and been awaited, a goroutine",
			},
			{
				Unit: "fire-ns/op", PerN: true, Short: "the fire alone",
				Title: "The fire alone, with n parked, a goroutine",
			},
		},
		Text: "n goroutines wait for the fire and return. quit shuts down, with " +
			"nothing to close. " +
			"`hand` is a context and `sync.WaitGroup.Go`. " +
			"errgroup, conc, suture and go-zero differ from it in the wait alone. " +
			"oklog/run has no fire. It calls the interrupt of each actor.",
		Picture: &Picture{
			File: "cost-drain.svg", Title: "From the fire to the end of the last goroutine",
			Subtitle: "Goroutines that wait for the fire and return: the time until " +
				"all have, divided by their number",
			X: "goroutines",
			Peers: []Label{
				{"quit", "quit"}, {"hand", "context, sync.WaitGroup"}, {"errgroup", "errgroup"},
				{"tomb", "tomb"},
				{"oklog-run", "oklog/run"}, {"suture", "suture"},
			},
		},
	},
	{
		Benchmark: "Wait", Title: "A wait inside n nested events",
		Baseline: "hand", Key: "n", Measures: perOp,
		Text: "There are n events, each a closer of the one before. " +
			"A closer of the innermost one makes another event and shuts it down. " +
			"`hand` derives a context from the innermost of n, and waits for a " +
			"goroutine that it cancels. " +
			"do makes a scope in the innermost of n, and shuts it down.",
		Picture: &Picture{
			File: "cost-wait.svg", Title: "Waiting inside nested events",
			Subtitle: "Another event is made and shut down inside the innermost one",
			X:        "events, each a closer of the one before",
			Peers: []Label{
				{"quit", "quit"}, {"hand", "by hand, contexts"},
				{"samber-do", "samber/do, scopes"}, {"suture", "suture, supervisors"},
			},
		},
	},
	{
		Benchmark: "Nested", Title: "The shutdown of n nested events", Baseline: "hand", Key: "n",
		Measures: []Measure{{Unit: "ns/op", PerN: true}},
		Text: "The time for each event. Each event has one closer that does nothing, " +
			"and the next event. " +
			"`hand` is a slice of `io.Closer`, which is an `io.Closer` itself. " +
			"A scope of do has a service and the next scope. " +
			"A supervisor of suture has a service and the next supervisor.",
		Picture: &Picture{
			File: "cost-nested.svg", Title: "A shutdown of nested events, for each event",
			Subtitle: "Each event has one closer that does nothing, and the next event: " +
				"the time of all, divided by their number",
			X: "events, each a closer of the one before",
			Peers: []Label{
				{"quit", "quit"}, {"hand", "by hand, nested slices"},
				{"samber-do", "samber/do, scopes"}, {"suture", "suture, supervisors"},
			},
		},
	},
	{
		Benchmark: "Exit", Title: "From SIGTERM to the end of the process",
		Baseline: "hand", Key: "with", Measures: perOp,
		Text: "The time until the parent process has the exit status, for the programs in " +
			"[bench/programs](../bench/programs): with nothing to do, with a server " +
			"without connections, " +
			"and with a server and a client that keeps an idle connection. " +
			"`quit.http` gives that client its `Linger` of 250 ms for a request that " +
			"may be on its way. " +
			"The others cut such a request off. go-zero always sleeps for a second first.",
	},
	{
		Benchmark: "Request", Title: "A request", Baseline: "hand", Key: "over", Measures: perOp,
		Text: "On a connection that is kept alive, in memory and over loopback. " +
			"In memory, the cost beyond that of net/http shows best. " +
			"`hand` is net/http, `quit` is `quithttp.Serve`, " +
			"and `quit.Track` is both that and `quithttp.Track`. " +
			"kratos has its own server. " +
			"Each was measured ten times in a run, for 50 ms.",
	},
	{
		Benchmark: "Binary", Title: "The program", Baseline: "hand",
		Measures: []Measure{
			{Unit: "size-bytes", Title: "Its size", Short: "size"},
			{Unit: "packages", Title: "Its packages", Short: "packages"},
		},
		Text: "A minimal server, built with `go build`: the programs in " +
			"[bench/programs](../bench/programs).",
	},
}

// Find returns the operation of a benchmark.
func Find(benchmark string) (Operation, bool) {
	for _, o := range Operations {
		if o.Benchmark == benchmark {
			return o, true
		}
	}
	return Operation{}, false
}
