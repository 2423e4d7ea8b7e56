package ignored

import "os"

func inTest() { os.Chdir("") }
