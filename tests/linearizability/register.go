package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// registerModel is a compare-and-set register: the version of a workflow, 0 before it is created.
//
//   - create: ok makes version 1 of nothing; no where it is there already.
//   - update: ok makes `version`, one more than before, where the version was `expected` (-1: any); no where it was
//     another, which is `version`.
//
// What is unknown may have happened at any time after its call, or never.
var registerModel = porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{int64(0)} },
	Step: func(state, input, output interface{}) []interface{} {
		return boxed(stepRegister(state.(int64), input.(Operation), output.(string)))
	},
	DescribeOperation: func(input, output interface{}) string {
		one := input.(Operation)
		return fmt.Sprintf("%s at %d: %s %d", one.Kind, one.Expected, output, one.Version)
	},
}

func stepRegister(version int64, one Operation, outcome string) []int64 {
	matches := one.Expected == -1 || one.Expected == version
	exists := version > 0
	switch one.Kind {
	case "create":
		switch {
		case outcome == "ok" && !exists:
			return []int64{1}
		case outcome == "no" && exists:
			return []int64{version}
		case outcome == "unknown" && !exists:
			return []int64{0, 1}
		case outcome == "unknown":
			return []int64{version}
		}
	case "update":
		switch {
		case outcome == "ok" && exists && matches && one.Version == version+1:
			return []int64{version + 1}
		case outcome == "no" && one.Version == version && !(exists && matches):
			return []int64{version}
		case outcome == "unknown" && exists && matches:
			return []int64{version, version + 1}
		case outcome == "unknown":
			return []int64{version}
		}
	}
	return nil
}
