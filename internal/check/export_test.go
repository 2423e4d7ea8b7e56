package check

// RunInParts is Run with about maxUnits units at a time.
var RunInParts = runInParts
