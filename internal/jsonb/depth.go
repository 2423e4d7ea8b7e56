package jsonb

// DefaultDepth is the number of levels of arrays and objects that every server
// accepts whose max_stack_depth has its default of 2 MB.
//
// The server recurses once per level, while it parses and again while it builds the
// jsonb. The only limit is its stack (check_stack_depth in jsonapi.c and
// jsonb_util.c). These are the limits of PostgreSQL 15 on amd64, in a function that
// is called by a function:
//
//	max_stack_depth    arrays    objects   [{"a":…}]
//	100 kB                662        596         627
//	512 kB              3,591      3,233       3,403
//	1 MB                7,232      6,509       6,853
//	2 MB               14,508     13,063      13,751
//	4 MB               29,078     26,170      27,549
//	7 MB               50,923     45,831      48,243
//
// An array takes 145 bytes of stack for each level and an object 161, except for the
// first few kB. Stack frames differ between versions, compilers and processors.
// 10,000 levels in 2 MB leave 209 bytes for each.
const DefaultDepth = 10_000

// Depth returns the number of levels that a server accepts whose
// max_stack_depth is stackKB kilobytes, with the same margin as DefaultDepth.
func Depth(stackKB int) int { return stackKB * DefaultDepth / 2048 }
