package timeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
)

// The report in JSON. It consists of plain structs, since package json checks
// the result of a MarshalJSON method again at each level above it.
type (
	jsonReport struct {
		Cause      string     `json:"cause,omitempty"`
		Fired      time.Time  `json:"fired,omitzero"`
		Started    time.Time  `json:"started,omitzero"`
		Deadline   time.Time  `json:"deadline,omitzero"`
		Ended      time.Time  `json:"ended,omitzero"`
		Taken      time.Time  `json:"taken,omitzero"`
		Goroutines int        `json:"goroutines"`
		Failures   []string   `json:"failures,omitempty"`
		Steps      []jsonStep `json:"steps"`
	}
	jsonStep struct {
		Name      string     `json:"name"`
		Site      string     `json:"site,omitempty"`
		Phase     string     `json:"phase"`
		Start     time.Time  `json:"start,omitzero"`
		Deadline  time.Time  `json:"deadline,omitzero"`
		End       time.Time  `json:"end,omitzero"`
		Detail    string     `json:"detail,omitempty"`
		Err       string     `json:"err,omitempty"`
		Abandoned bool       `json:"abandoned,omitempty"`
		Stacks    string     `json:"stacks,omitempty"`
		Steps     []jsonStep `json:"steps,omitempty"`
	}
)

// Limits of the JSON.
const (
	mostDepth  = 1000     // steps: package json reads 10,000 levels, and a step is two
	mostRepeat = 16 << 10 // bytes of an error that inner steps report
)

// JSON returns all of the report, with errors as their texts.
func (r *Report) JSON() ([]byte, error) {
	j := jsonReport{
		Cause:      text.Error(r.Cause),
		Fired:      valid(r.Fired),
		Started:    valid(r.Started),
		Deadline:   valid(r.Deadline),
		Ended:      valid(r.Ended),
		Taken:      valid(r.Taken),
		Goroutines: max(r.Goroutines, 0),
		Steps:      jsonSteps(r.Steps, mostDepth),
	}
	for _, err := range r.Errs {
		j.Failures = append(j.Failures, strings.Split(ErrorText(err), "\n")...)
	}
	return json.Marshal(j)
}

// JSON returns all of the step, with its error as a text.
func (s *Step) JSON() ([]byte, error) { return json.Marshal(s.json(mostDepth)) }

// json returns the step with the given number of levels, its own included.
func (s *Step) json(levels int) jsonStep {
	j := jsonStep{
		Name:      s.Name,
		Site:      s.Site,
		Phase:     s.Phase,
		Start:     valid(s.Start),
		Deadline:  valid(s.Deadline),
		End:       valid(s.End),
		Err:       s.jsonErr(),
		Detail:    s.Detail,
		Abandoned: s.Abandoned,
		Stacks:    s.Stacks,
	}
	if len(s.Steps) > 0 {
		j.Steps = jsonSteps(s.Steps, levels-1)
	}
	return j
}

func jsonSteps(steps []Step, levels int) []jsonStep {
	if levels == 0 {
		more := fmt.Sprintf("… %s more, nested too deep", text.Plural(count(steps), "step"))
		return []jsonStep{{Name: more, Phase: steps[0].Phase}}
	}
	all := make([]jsonStep, 0, len(steps))
	for i := range steps {
		all = append(all, steps[i].json(levels))
	}
	return all
}

// jsonErr returns the text of the step's error. A long text is cut if the inner
// steps report all of it, since otherwise each level would repeat it.
func (s *Step) jsonErr() string {
	if len(s.own()) > 0 {
		return text.Error(s.Err)
	}
	e, all := errorText(s.Err, mostRepeat)
	if !all {
		e = strings.TrimPrefix(e+"\n… more, which the inner steps tell", "\n")
	}
	return e
}

// count returns the number of steps, including inner ones.
func count(steps []Step) int {
	n := len(steps)
	for i := range steps {
		n += count(steps[i].Steps)
	}
	return n
}

// The first and the last time that JSON can express.
var (
	firstTime = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
)

// valid returns t, or the nearest time that JSON can express: one in the years
// 0 to 9999, in a zone less than a day from UTC. It does not use t.Year, which
// may overflow an int on a 32-bit system.
func valid(t time.Time) time.Time {
	switch {
	case t.Before(firstTime):
		return firstTime
	case t.After(lastTime):
		return lastTime
	}
	if _, err := t.MarshalJSON(); err != nil {
		return t.UTC()
	}
	return t
}
