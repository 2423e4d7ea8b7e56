package mapping

// RejectionReasons returns the names of the reasons that only rejected rows have.
func RejectionReasons() (names []string) {
	for at := range lastReasonAt {
		if one := Reason(1 << at); one&rejections != 0 {
			names = append(names, meanings[one].Name)
		}
	}
	return names
}
