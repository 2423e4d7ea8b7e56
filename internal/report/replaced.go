package report

// Replaced describes the rows that the target held before, and their archive
// schema.
type Replaced struct {
	ArchiveSchema string          `json:"archive_schema"`
	Tables        []ArchivedTable `json:"tables"` // Flujo's, and those of flujo-port if they existed
	// UndoSQL are statements for psql, one a line, that restore the archived rows
	// in one transaction. They delete the rows that the tables hold by then. After
	// a dry run they name a schema that was rolled back.
	UndoSQL []string `json:"undo_sql"`
	// DropSQL is the statement that deletes the archive schema.
	DropSQL string `json:"drop_sql"`
}

// ArchivedTable is one table of the archive schema.
type ArchivedTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}
