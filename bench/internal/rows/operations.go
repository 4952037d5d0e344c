package rows

// Quit is the peer that all others are compared with.
const Quit = "quit"

// Operation is what one benchmark measures, for each peer that has it.
type Operation struct {
	Benchmark string // its name, without "Benchmark"
	Title     string
	Text      string // what is measured, in Markdown
	Baseline  string // the peer that the ratios are to
	Key       string // of the rows: "n", "procs" and so on; empty if there is one row
	Measures  []Measure

	// Picture is the curve of it in docs, and PictureText says what it shows.
	Picture, PictureText string
}

// Measure is one of the figures of a benchmark.
type Measure struct {
	Unit  string // as benchmarks write it
	Title string // of its table, if there are several
	PerN  bool   // it is shown divided by n
}

var perOp = []Measure{{Unit: "ns/op"}}

// Operations are all of them, in the order of the report.
var Operations = []Operation{
	{
		Benchmark: "HasFired", Title: "Has it fired?", Baseline: "hand", Key: "procs", Measures: perOp,
		Text: "100 looks, before the fire, on each of GOMAXPROCS goroutines. `hand` is `ctx.Err()`, which is also what " +
			"users of errgroup, conc and suture call; `hand.select` a select on `ctx.Done()`.",
	},
	{
		Benchmark: "AddDone", Title: "Counting a goroutine in and out", Baseline: "hand", Key: "procs", Measures: perOp,
		Text: "An Add and a Done, on each of GOMAXPROCS goroutines. `hand` is a `sync.WaitGroup`.",
	},
	{
		Benchmark: "Go", Title: "Starting a goroutine", Baseline: "errgroup", Measures: perOp,
		Text: "A func that returns nil. `quit.Name` gives it a name, in its pprof labels; `hand.labels` does that by " +
			"`pprof.Do`. `hand` is `sync.WaitGroup.Go`. suture's service may be restarted, and has a name too.",
	},
	{
		Benchmark: "Register", Title: "Register and unregister", Baseline: "context", Key: "n", Measures: perOp,
		Text: "With n registered. `context` is `context.AfterFunc` and its stop, `hand` a map under a mutex. A service " +
			"of suture is a goroutine: it is started and told to stop.",
	},
	{
		Benchmark: "Shutdown", Title: "The shutdown of n closers that do nothing", Baseline: "hand", Key: "n",
		Measures: []Measure{
			{Unit: "ns/op", Title: "The shutdown, a closer", PerN: true},
			{Unit: "register-ns/op", Title: "The registration before it, a closer", PerN: true},
		},
		Text: "`hand` is a loop over a slice, in which a closer that hangs or panics takes all with it. `hand.bounded` " +
			"calls each in a goroutine with a time limit and a recover. " +
			"fx calls its hooks one by one on one goroutine, kratos on its own, go-zero and do all at once.",
	},
	{
		Benchmark: "Drain", Title: "The end of n goroutines", Baseline: "hand", Key: "n",
		Measures: []Measure{
			{Unit: "ns/op", Title: "From the fire until the last of n has ended and been awaited, a goroutine", PerN: true},
			{Unit: "fire-ns/op", Title: "The fire alone, with n parked, a goroutine", PerN: true},
		},
		Text: "n goroutines wait for the fire and return. `hand` is a context and `sync.WaitGroup.Go`, " +
			"and so are errgroup, conc, suture and go-zero but for the wait. oklog/run has no fire: it calls each actor's interrupt.",
	},
	{
		Benchmark: "Wait", Title: "A wait inside n nested events", Baseline: "hand", Key: "n", Measures: perOp,
		Text: "In a closer of the innermost of n events, each a closer of the one before, another event is made and shut down. " +
			"`hand` derives a context from the innermost of n, and waits for a goroutine that it cancels; " +
			"do makes a scope in the innermost of n, and shuts it down.",
	},
	{
		Benchmark: "Nested", Title: "The shutdown of n nested events", Baseline: "hand", Key: "n",
		Measures: []Measure{{Unit: "ns/op", PerN: true}},
		Text: "For each event. Each has one closer that does nothing, and the next event. `hand` is a slice of `io.Closer`, which is " +
			"one itself; a scope of do has a service and the next scope; a supervisor of suture a service and the next supervisor.",
	},
	{
		Benchmark: "Exit", Title: "From SIGTERM to the end of the process", Baseline: "hand", Key: "with", Measures: perOp,
		Text: "Until the parent has its status, of the programs in [bench/programs](../bench/programs): with nothing to do; " +
			"with a server that nobody is connected to; with a server and a client that keeps an idle connection. " +
			"`quit.http` gives that client its `Linger` of 250 ms for a request that may be on its way, which the others cut off. go-zero " +
			"sleeps for a second first, whatever there is to do.",
	},
	{
		Benchmark: "Request", Title: "A request", Baseline: "hand", Key: "over", Measures: perOp,
		Text: "On a connection that is kept alive: in memory, where what is added to net/http shows best, and over loopback. " +
			"`hand` is net/http, `quit` is `quithttp.Serve`, `quit.Track` that and `quithttp.Track`, kratos its own server.",
	},
	{
		Benchmark: "Binary", Title: "The program", Baseline: "hand",
		Measures: []Measure{
			{Unit: "size-bytes", Title: "Its size"},
			{Unit: "packages", Title: "Its packages"},
		},
		Text: "A minimal server, built with `go build`: the programs in [bench/programs](../bench/programs).",
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
