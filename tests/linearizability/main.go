// Asks Porcupine, a linearizability checker that others wrote, whether a history could have happened.
//
// A history is JSON on the standard input: {"model": "lock" or "register", "seconds": 60, "operations": [...]}. The
// verdict is JSON on the standard output: {"verdict": "ok", "illegal" or "unknown", "operations": n}. The exit code is
// 0 for any verdict and 2 where the input is no history.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// Operation is what a client asked for, and what it was told. Times are nanoseconds on one monotonic clock; what never
// returned returns at the end of the history.
type Operation struct {
	Client  int    `json:"client"`
	Key     string `json:"key"`     // the resource, or the workflow
	Kind    string `json:"kind"`    // see the models
	Outcome string `json:"outcome"` // ok, no, unknown
	Call    int64  `json:"call"`
	Return  int64  `json:"return"`

	// Locks.
	Lock  string `json:"lock"`
	Token uint64 `json:"token"` // 0 where nobody was told
	Lasts int64  `json:"lasts"` // the lease ends no earlier than so long after the call

	// Registers.
	Expected int64 `json:"expected"` // -1 for any version
	Version  int64 `json:"version"`  // the version made (ok), or the one in the way (no)
}

type history struct {
	Model      string      `json:"model"`
	Seconds    int         `json:"seconds"`
	Operations []Operation `json:"operations"`
}

var models = map[string]porcupine.NondeterministicModel{"lock": lockModel, "register": registerModel}

func main() {
	picture := flag.String("picture", "", "where to draw a history that could not have happened, as HTML")
	flag.Parse()
	var given history
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		fail("the input is no history: %v", err)
	}
	nondeterministic, known := models[given.Model]
	if !known {
		fail("there is no model %q", given.Model)
	}
	operations := make([]porcupine.Operation, len(given.Operations))
	for i, one := range given.Operations {
		if one.Return < one.Call {
			fail("operation %d of client %d returns before it is called", i, one.Client)
		}
		operations[i] = porcupine.Operation{
			ClientId: one.Client, Input: one, Call: one.Call, Output: one.Outcome, Return: one.Return,
		}
	}
	nondeterministic.Partition = byKey
	model := nondeterministic.ToModel()
	timeout := time.Duration(given.Seconds) * time.Second
	result, info := porcupine.CheckOperationsVerbose(model, operations, timeout)
	if result == porcupine.Illegal && *picture != "" {
		if err := porcupine.VisualizePath(model, info, *picture); err != nil {
			fail("the picture could not be drawn: %v", err)
		}
	}
	verdict := map[porcupine.CheckResult]string{
		porcupine.Ok: "ok", porcupine.Illegal: "illegal", porcupine.Unknown: "unknown",
	}[result]
	told := map[string]any{"verdict": verdict, "operations": len(operations)}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		fail("%v", err)
	}
}

// byKey splits a history: what happens to one resource says nothing about another.
func byKey(whole []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	for _, one := range whole {
		key := one.Input.(Operation).Key
		parts[key] = append(parts[key], one)
	}
	found := make([][]porcupine.Operation, 0, len(parts))
	for _, part := range parts {
		found = append(found, part)
	}
	return found
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(2)
}
