module lab/gocall

go 1.26
