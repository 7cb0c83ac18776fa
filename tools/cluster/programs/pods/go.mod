// Programs of the images that the tests run (tools/cluster/images.py); they need nothing but Go's standard library.
module neuropod.invalid/cluster/pods

go 1.26.0
