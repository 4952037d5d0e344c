package quit

// What tests need of the inside.
var (
	ShortSymbol = shortSymbol
	GoroutineID = goroutineID
)
