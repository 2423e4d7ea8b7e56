package main

import (
	"flag"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"
)

// refuseUnclearFlags makes the commands and their subcommands return a usage error
// if a flag with one value occurs twice, because the flag package uses the last value
// without a word, or if a value is empty, as that of a variable that is not set.
// Otherwise they call then. They get copies of their flags, since commands share flags and
// the library writes to them.
func refuseUnclearFlags(commands []*cli.Command, then cli.BeforeFunc) {
	for _, command := range commands {
		var flags []*onceFlag
		for i, f := range command.Flags {
			f = copyOf(f)
			command.Flags[i] = f
			if _, list := f.(*cli.StringSliceFlag); list {
				continue
			}
			once := &onceFlag{DocGenerationFlag: f.(cli.DocGenerationFlag)}
			command.Flags[i] = once
			flags = append(flags, once)
		}
		command.Before = func(c *cli.Context) error {
			var repeated, empty []string
			for _, f := range flags {
				if f.repeated {
					repeated = append(repeated, "--"+f.Names()[0])
				}
				if f.empty {
					empty = append(empty, "--"+f.Names()[0])
				}
			}
			if len(repeated) > 0 {
				return usagef("%s may be given only once", strings.Join(repeated, ", "))
			}
			if len(empty) > 0 {
				return usagef("the value of %s is empty", strings.Join(empty, ", "))
			}
			return then(c)
		}
		refuseUnclearFlags(command.Subcommands, then)
	}
}

// copyOf returns a copy of a flag, which is a pointer to a struct.
func copyOf(f cli.Flag) cli.Flag {
	fresh := reflect.New(reflect.TypeOf(f).Elem())
	fresh.Elem().Set(reflect.ValueOf(f).Elem())
	return fresh.Interface().(cli.Flag)
}

// onceFlag is a flag that records whether it is given more than once, or with an empty value.
type onceFlag struct {
	cli.DocGenerationFlag
	repeated, empty bool
}

// Apply adds the flag to set.
func (f *onceFlag) Apply(set *flag.FlagSet) error {
	if err := f.DocGenerationFlag.Apply(set); err != nil {
		return err
	}
	for _, name := range f.Names() {
		added := set.Lookup(name)
		added.Value = &onceValue{Value: added.Value, flag: f}
	}
	return nil
}

// IsVisible returns true, so that the help lists the flag.
func (f *onceFlag) IsVisible() bool { return true }

// GetCategory returns the category under which the help lists the flag.
func (f *onceFlag) GetCategory() string {
	return f.DocGenerationFlag.(cli.CategorizableFlag).GetCategory()
}

// onceValue is the value of a onceFlag.
type onceValue struct {
	flag.Value
	flag  *onceFlag
	given bool
}

// Set sets the value. A second value is a repetition, unless it is that of a flag
// without an argument and changes nothing, as in --json --json.
func (v *onceValue) Set(text string) error {
	if text == "" && !v.IsBoolFlag() { // an error of the command, and not of a number's format
		v.flag.empty = true
		return nil
	}
	before := v.String()
	err := v.Value.Set(text)
	if v.given && (!v.IsBoolFlag() || v.String() != before) {
		v.flag.repeated = true
	}
	v.given = true
	return err
}

// IsBoolFlag reports whether the flag has no argument. The flag package calls it.
func (v *onceValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
