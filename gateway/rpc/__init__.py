"""The wire: servicers, authentication of calls, conversion between messages and plain data, the error table."""
