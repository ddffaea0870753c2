module example.com/stranger

go 1.26.0

require github.com/mabuild/mabuild v0.0.0
