package mapping

import (
	"fmt"
	"unsafe"
)

// DriverValue gives a value as database/sql's drivers of SQLite take it. It
// shares the value's bytes.
func DriverValue(v Value) any {
	switch v.Class {
	case Integer:
		return v.Int
	case Real:
		return v.Real
	case Text:
		return unsafe.String(unsafe.SliceData(v.Bytes), len(v.Bytes))
	case Blob:
		if v.Bytes == nil { // which drivers take for NULL
			return []byte{}
		}
		return v.Bytes
	}
	return nil
}

// FromDriver gives the value that a driver read, whose bytes it shares.
func FromDriver(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{}, nil
	case int64:
		return IntegerValue(v), nil
	case float64:
		return RealValue(v), nil
	case string:
		// The driver made the string for this row; its bytes are only read.
		return Value{Class: Text, Bytes: unsafe.Slice(unsafe.StringData(v), len(v))}, nil
	case []byte:
		return BlobValue(v), nil
	}
	return Value{}, fmt.Errorf("the driver gave a %T, which is none of SQLite's storage classes", v)
}
