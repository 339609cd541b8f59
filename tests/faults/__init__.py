"""What holds while things break: servers are killed, connections cut, calls fail half way."""
