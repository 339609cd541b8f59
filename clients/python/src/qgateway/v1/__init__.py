"""Generated stubs of the contract in `protos/qgateway/v1`; made by `make protos`, not by hand."""
