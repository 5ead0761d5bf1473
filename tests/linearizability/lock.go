package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// lockState is a lock as a client can know it: who has it, its token, and before when its lease cannot end.
type lockState struct {
	holder  string
	token   uint64
	largest uint64
	until   int64
}

// lockModel knows these kinds of operations:
//
//   - acquire: ok with a token, or no (denied, or waited in vain). Only a free lock is granted, and only with a larger
//     token than ever before.
//   - renew: ok only for the holder, with its token; no only for everybody else.
//   - release: as renew; then the lock is free.
//   - expire: not a client's. The lease of `lock` ends by itself, at some time after its call. It does nothing where the
//     lock is another's by then, or was renewed since.
//
// What is unknown may have happened at any time after its call, or never.
var lockModel = porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{lockState{}} },
	Step: func(state, input, output interface{}) []interface{} {
		return stepLock(state.(lockState), input.(Operation), output.(string))
	},
	DescribeOperation: func(input, output interface{}) string {
		one := input.(Operation)
		return fmt.Sprintf("%s %s: %s %d", one.Kind, one.Lock, output, one.Token)
	},
	DescribeState: func(state interface{}) string {
		one := state.(lockState)
		return fmt.Sprintf("{%s %d}", one.holder, one.token)
	},
}

func stepLock(state lockState, one Operation, outcome string) []interface{} {
	isHolder := state.holder == one.Lock && state.holder != ""
	until := one.Call + one.Lasts
	var after []lockState
	switch one.Kind {
	case "acquire":
		granted := lockState{holder: one.Lock, token: one.Token, largest: max(one.Token, state.largest), until: until}
		switch {
		case outcome == "ok" && state.holder == "" && one.Token > state.largest:
			after = []lockState{granted}
		case outcome == "no":
			after = []lockState{state}
		case outcome == "unknown" && state.holder == "":
			after = []lockState{state, granted}
		case outcome == "unknown":
			after = []lockState{state}
		}
	case "renew":
		renewed := state
		renewed.until = max(until, state.until)
		isTheSame := state.token == one.Token || state.token == 0
		switch {
		case outcome == "ok" && isHolder && isTheSame:
			if state.token == 0 && one.Token > state.largest {
				renewed.token, renewed.largest = one.Token, one.Token
			}
			after = []lockState{renewed}
		case outcome == "no" && !isHolder:
			after = []lockState{state}
		case outcome == "unknown" && isHolder:
			after = []lockState{state, renewed}
		case outcome == "unknown":
			after = []lockState{state}
		}
	case "release":
		free := lockState{largest: state.largest}
		switch {
		case outcome == "ok" && isHolder:
			after = []lockState{free}
		case outcome == "no" && !isHolder:
			after = []lockState{state}
		case outcome == "unknown" && isHolder:
			after = []lockState{state, free}
		case outcome == "unknown":
			after = []lockState{state}
		}
	case "expire":
		if isHolder && state.until <= one.Call {
			after = []lockState{{largest: state.largest}}
		} else {
			after = []lockState{state}
		}
	}
	return boxed(after)
}

func boxed[State any](states []State) []interface{} {
	found := make([]interface{}, len(states))
	for i, state := range states {
		found[i] = state
	}
	return found
}
