package report

// Deleted returns the number of rows that were deleted since, if rows were compared one by one.
func (v *Verification) Deleted() (n int64) {
	for _, c := range v.Tables {
		n += c.Deleted
	}
	return n
}

// Incomplete returns the number of runs, keys and memories of the files of which rows were deleted, and none was
// written since, as by Flujo.
func (v *Verification) Incomplete() (n int64) {
	for _, f := range v.Files {
		for _, u := range f.Units {
			n += u.Missing + u.Incomplete
		}
	}
	return n
}

// CountIncomplete counts a changed unit, which Count counts too, as one whose rows were only deleted.
func (u *ComparedUnits) CountIncomplete(key string) {
	u.Incomplete++
	if len(u.FirstIncomplete) < 10 {
		u.FirstIncomplete = append(u.FirstIncomplete, key)
	}
}
