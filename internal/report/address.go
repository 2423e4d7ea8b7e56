package report

// Address is the report of the command uri.
type Address struct {
	Run
	Address string   `json:"flujo_state_uri"`
	Masked  bool     `json:"masked"` // what may be a password is ***
	Notes   []string `json:"notes"`
}
